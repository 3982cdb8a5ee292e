# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find declared models that neither the host nor any of their sources has, before anything is changed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core.errors import OllamaError
from .._store.state import Memory
from .._store.store import Store
from .declaration import DeclaredModel
from .plan import Accepted, Answer, Answers, Found, Reason, plan_pull
from .registry import Source

if t.TYPE_CHECKING:
    from .sources import Offers

_Indexed = t.List[t.Tuple[int, DeclaredModel]]
_Errors = t.List[t.Tuple[int, OllamaError]]

# Seconds for all requests together: a missing reply is no evidence, and the next step queries the source again.
_LIMIT = 10.0
# The errors that prove that a source does not have the declared model.
_DEFINITE = ("tag_missing", "tag_refused", "digest_not_offered")
_HINTS = {
    "tag_missing": "an existing name and tag",
    "tag_refused": "a tag that the registry accepts",
    "digest_not_offered": "a digest that a source offers, in ollama_models or in the lock",
}


def check(
    declared: t.Sequence[DeclaredModel],
    models_dir: str,
    mirrors: t.Sequence[Source],
    *,
    lists: bool,
    environment: t.Mapping[str, str],
    check_mode: bool,
) -> None:
    """Refuse models that no source has. If no model is missing on the host, no source is queried.

    An unreachable source is no evidence: the model may exist, and the server may have another route to the source.

    :param lists: whether the server reads lists of variants.
    :param environment: variables for requests to registries.
    :param check_mode: whether an earlier task, which is only predicted, may install the base of a custom model.
    :raises OllamaError: ``tag_missing``, ``tag_refused``, ``digest_not_offered`` or ``model_missing``, with one
        sentence for each model.
    """
    store = Store(models_dir, generation=2 if lists else 1)
    memory = Memory.of(store)
    missing, errors = _missing(declared, store, memory, check_mode=check_mode)
    if missing:
        errors += _unknown(missing, store, memory, mirrors, lists=lists, environment=environment)
    if errors:
        errors.sort(key=lambda item: item[0])
        first = errors[0][1]
        raise OllamaError(first.code, "; ".join(exc.message for _index, exc in errors))


def _missing(
    declared: t.Sequence[DeclaredModel], store: Store, memory: Memory, *, check_mode: bool
) -> tuple[_Indexed, _Errors]:
    """Return the models that must be fetched, and an error for each custom model without a base."""
    names = {name.key for model in declared if model.state != "absent" for name in (model.name, *model.aliases)}
    missing: _Indexed = []
    errors: _Errors = []
    for index, model in enumerate(declared):
        try:
            if model.state == "absent":
                continue
            if not model.recipe:
                entry = store.find(model.name)
                if not entry or (model.pin and not entry.problem and model.pin not in memory.known_as(entry)):
                    missing.append((index, model))
                continue
            base = model.recipe.base
            if base and base.key not in names and not check_mode and not store.find(base):
                text = (
                    f"ollama_models[{index}].from: invalid value {str(base)!r}; expected a model on this host or "
                    "another element of ollama_models"
                )
                errors.append((index, OllamaError("model_missing", text)))
        except (OllamaError, OSError):
            # The module model reports an unreadable store.
            continue
    return missing, errors


def _unknown(
    missing: _Indexed,
    store: Store,
    memory: Memory,
    mirrors: t.Sequence[Source],
    *,
    lists: bool,
    environment: t.Mapping[str, str],
) -> _Errors:
    """Query the sources of models, and return an error for each model that no source has."""
    # Imported here, as a converged host does not need these modules.
    from .._server.api import Client
    from .session import Options, Session
    from .sources import Offers

    errors: _Errors = []
    options = Options(mirrors=tuple(mirrors), environment=environment, deadline=_LIMIT)
    with Offers(Session(Client(), store, memory, options, lists=lists)) as offers:
        for index, model in missing:
            exc = _refusal(offers, model)
            if exc:
                text = f"ollama_models[{index}]: {exc.message}; expected {_HINTS[exc.code]}"
                errors.append((index, OllamaError(exc.code, text)))
    return errors


def _refusal(offers: Offers, model: DeclaredModel) -> OllamaError | None:
    """Return why no source has a model, or None if a source has it or may have it."""
    pins = frozenset([model.pin] if model.pin else [])
    answers: list[Answer] = []
    for source in offers.sources(model):
        answer = offers.best(source, model.name, pins)
        if answer.offer and (not model.pin or answer.offer.satisfies(model.pin)):
            return None
        if answer.error and answer.error.code not in _DEFINITE:
            return None
        answers.append(answer)
    try:
        plan_pull(model, Found(), Reason.MISSING, Answers(answers[-1].source, tuple(answers)), Accepted(pins))
    except OllamaError as exc:
        return exc if exc.code in _DEFINITE else None
    return None
