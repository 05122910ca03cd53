"""Query parameters that a route does not have, or has once: refused, since they may be slips."""

from __future__ import annotations

from collections import Counter
from typing import get_args, get_origin

from fastapi import Request
from fastapi.routing import APIRoute

from service.errors import SuperbinError


class ParameterUnknown(SuperbinError):
    """A query parameter that the route does not have, or a second value of one that has one."""

    reason = "unknown_parameter"


async def refuse_unknown(request: Request) -> None:
    """Compare the query with what the request's route declares or describes.

    Raises:
        ParameterUnknown: naming what was expected and what came; also for one that is there twice
            and stands for one value.
    """
    if not request.scope["query_string"]:
        return
    known = _parameters(request.scope["route"])
    came = Counter(name for name, _ in request.query_params.multi_items())
    strays = [name[:80] for name in came if name not in known]
    if strays:
        expected = f"no query parameters but {', '.join(known)}" if known else "no query parameters"
        raise ParameterUnknown(f"expected {expected}, got {', '.join(map(repr, strays[:5]))}")
    if repeated := [name for name, times in came.items() if times > 1 and not known[name]]:
        told = ", ".join(f"{name} {came[name]:,} times" for name in repeated)
        raise ParameterUnknown(f"expected each query parameter once, got {told}")


def _parameters(route: APIRoute) -> dict[str, bool]:
    """Each by its name, and whether it may be there several times."""
    described = (route.openapi_extra or {}).get("parameters", ())
    found = {one["name"]: _is_array(one["schema"]) for one in described if one["in"] == "query"}
    return found | {
        one.alias: _is_list(one.field_info.annotation) for one in route.dependant.query_params
    }


def _is_array(schema: dict[str, object]) -> bool:
    return schema.get("type") == "array"


def _is_list(annotation: object) -> bool:
    return any(get_origin(one) is list for one in (annotation, *get_args(annotation)))
