"""The door of a run: its config is taken apart once, and everything that is wrong with it is told there."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from dp3_jax.common.errors import UserError
from dp3_jax.training.objectives import OBJECTIVES, Objective
from dp3_jax.training.options import data_options, model_section
from dp3_jax.training.sections import (
    DataSection,
    EvaluateSection,
    LogSection,
    ModelSection,
    Sections,
    TrainSection,
)

__all__ = ["data_options", "model_section", "parse"]


def parse(config: ConfigDict) -> Sections:
    """The sections of `config`, each checked by itself and with the others.

    Raises:
      UserError: a value is impossible or missing; names the first one and says how many more there are.
    """
    sections = take_apart(config)
    problems = list(_problems(sections))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"config.{problems[0]}{more}")
    return sections


def take_apart(config: ConfigDict) -> Sections:
    """The sections of `config`, whose values are checked only as far as types need it; see `parse`.

    Raises:
      UserError: a value is missing or of another family, or the data are impossible.
    """
    model = ModelSection.of(config.model)
    return Sections(
        seed=config.seed,
        data=DataSection.of(config.data),
        model=model,
        losses=_losses(OBJECTIVES.get(model.family), config.get("losses", {})),
        train=TrainSection.of(config.train),
        log=LogSection.of(config.log),
        evaluate=EvaluateSection.of(config.evaluate),
    )


def _losses(objective: Objective | None, factors: Mapping[str, Any]) -> Any:
    """The factors of a family's losses; None for a family without any.

    Raises:
      UserError: a loss that the family does not have.
    """
    if objective is None or objective.losses is None:
        return None
    known = [field.name for field in dataclasses.fields(objective.losses)]
    if unknown := [name for name in factors if name not in known]:
        raise UserError(f"config.losses.{unknown[0]} is none of {', '.join(known)}")
    return objective.losses(**factors)


def _problems(sections: Sections) -> Iterator[str]:
    if not sections.seed >= 0:
        yield f"seed={sections.seed} is not 0 or more"
    for part in (sections.model, sections.train, sections.log, sections.evaluate):
        yield from part.problems()
    of_data = list(sections.data.problems())
    yield from of_data or sections.model.size_problems(sections.data.image_size)
    if sections.model.family in OBJECTIVES:
        yield from OBJECTIVES[sections.model.family].problems(sections)
