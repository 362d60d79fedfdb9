"use strict";

// The token that is pointed at, tapped or reached with the arrow keys is read out in one place, which a screen
// reader announces. Everything works without this too: a token has a title, and a table says the same.
(() => {
  const readout = document.querySelector("[data-readout]");
  if (!readout) return;
  const tokens = [...document.querySelectorAll(".tokens .t")];
  let now = null;

  const show = (token) => {
    if (token === now) return;
    now?.classList.remove("now");
    now = token;
    token.classList.add("now");
    const text = JSON.stringify(token.textContent);
    readout.textContent = `Token ${token.dataset.place}, ${text}: ${token.title}`;
  };

  for (const run of document.querySelectorAll(".tokens")) {
    const own = tokens.filter((token) => run.contains(token));
    for (const kind of ["mouseover", "click"]) {
      run.addEventListener(kind, (event) => {
        const token = event.target.closest(".t");
        if (token) show(token);
      });
    }
    run.addEventListener("keydown", (event) => {
      const place = own.indexOf(now);
      const next = { ArrowRight: place + 1, ArrowLeft: Math.max(place - 1, 0), Home: 0, End: own.length - 1 }[event.key];
      if (next === undefined || !own[next]) return;
      event.preventDefault();
      show(own[next]);
      own[next].scrollIntoView({ block: "nearest" });
    });
  }
})();
