"""The settings of a K-FAC edit: what its request asks to try, or the one that it asks for."""

from collections.abc import Sequence

from torch import nn

from app.contracts.edit_methods.kfac import adapts_keep_mass
from app.contracts.edits import EditSpec
from workers.edits.methods.registry import chosen_layers, chosen_projections
from workers.science.curvature.search import Setting, automatic_settings
from workers.science.models.projections import Projection, find_projections, layer_count


def settings_of(spec: EditSpec, model: nn.Module) -> list[Setting]:
    """What is tried, by weight of the retain set, or the one setting that is asked for.

    Raises:
        ProjectionNotFound: see `find_projections`.
    """
    everywhere = spec.layers == "auto"
    layers = list(range(layer_count(model))) if everywhere else chosen_layers(spec, model)
    found = chosen_projections(spec, model, layers)
    roles = tuple(dict.fromkeys(str(projection.role) for projection in found))
    single = tuple(dict.fromkeys(projection.layer for projection in found))
    weight = spec.retain_weight or 0.0
    steps = 0 if spec.recovery is None else spec.recovery.steps
    if everywhere:
        return automatic_settings(len(single), roles, weight, steps)
    mass = None if adapts_keep_mass(spec) else spec.keep_mass
    if spec.sweep is None:
        return [Setting(single, roles, mass, weight, steps)]
    runs = [tuple(sorted(set(run))) for run in spec.sweep.layers or [list(single)]]
    role_sets = [tuple(map(str, chosen)) for chosen in spec.sweep.projections or [[]]]
    masses: Sequence[float | None] = spec.sweep.keep_mass or [mass]
    # One eigenbasis after the other: each weight has its own.
    asked = (
        Setting(run, chosen or roles, kept, retained, trained)
        for retained in spec.sweep.retain_weight or [weight]
        for run in runs
        for chosen in role_sets
        for kept in masses
        for trained in spec.sweep.recovery_steps or [steps]
    )
    return list(dict.fromkeys(asked))


def projections_of(setting: Setting, model: nn.Module) -> list[Projection]:
    """What a setting edits."""
    return find_projections(model, layers=setting.layers, roles=setting.roles)


def needed_projections(settings: Sequence[Setting], model: nn.Module) -> list[Projection]:
    """Every projection of some setting, once."""
    found = (projection for setting in settings for projection in projections_of(setting, model))
    return list({projection.key: projection for projection in found}.values())
