"""How large an edit was, in tokens that went through the model, for what the next will take."""

from app.contracts.edit_workload import collected_tokens, edit_tokens, what_is_edited
from app.contracts.workload import Texts
from app.store.text_sets import TextSet
from workers.edits.evaluation import Readings
from workers.edits.inputs import EditInputs
from workers.running.runtime import Runtime


def note_size(runtime: Runtime, inputs: EditInputs, before: Readings) -> None:
    """Tell the meter. Of sets that the proof does not score, tokens are as many a byte as in the others."""
    with runtime.sessions() as session:
        rows = {role: session.get_one(TextSet, used.text_set_id) for role, used in inputs.text_sets.items()}
    counted = {rows[role].id: scored.summary["tokens"] for role, scored in before.sets.items()}
    size = sum(row.byte_count for row in {row.id: row for row in rows.values()}.values() if row.id in counted)
    per_byte = sum(counted.values()) / size if size else 0.0
    texts = {
        role: Texts(row.text_count, counted.get(row.id, row.byte_count * per_byte))
        for role, row in rows.items()
    }
    units = edit_tokens(inputs.spec, texts)
    if inputs.collection is not None:  # its shards say themselves what they took
        units -= collected_tokens(inputs.spec, texts)
    runtime.meter.note(units, what_is_edited(inputs.spec), inputs.base)
