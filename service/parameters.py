"""Query parameters that no route has: refused, since a misspelt one would change the answer."""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute

from service.errors import SuperbinError


class ParameterUnknown(SuperbinError):
    """A query parameter that the route does not have."""

    reason = "unknown_parameter"


async def refuse_unknown(request: Request) -> None:
    """Compare the query with what the request's route declares or describes.

    Raises:
        ParameterUnknown: naming what was expected and what came.
    """
    if not request.scope["query_string"]:
        return
    known = _parameters(request.scope["route"])
    strays = [name[:80] for name in request.query_params if name not in known]
    if strays:
        expected = f"no query parameters but {', '.join(known)}" if known else "no query parameters"
        raise ParameterUnknown(f"expected {expected}, got {', '.join(map(repr, strays[:5]))}")


def _parameters(route: APIRoute) -> list[str]:
    described = (route.openapi_extra or {}).get("parameters", ())
    declared = [field.alias for field in route.dependant.query_params]
    return [one["name"] for one in described if one["in"] == "query"] + declared
