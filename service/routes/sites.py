"""`GET /v1/sites`: the sites whose rules are in force, and their bins as people see them."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.intake import identify
from service.keys import KeyRefused
from service.openapi import KEYED, refusals
from service.schemas import Choice, SiteInfo, SitesAnswer
from service.serving import serving
from service.site_rules import Rules
from service.sites import MANUAL

router = APIRouter(tags=["sites"])


@router.get("/v1/sites", responses=refusals(KeyRefused), openapi_extra=KEYED)
async def sites(request: Request) -> SitesAnswer:
    """Every site with its bins, in all of its languages."""
    identify(request)
    rulebook = serving(request).rulebook
    return SitesAnswer(default=rulebook.default, sites=[_info(one) for one in rulebook.all])


def _info(rules: Rules) -> SiteInfo:
    site = rules.site
    places = {MANUAL: site.manual} | dict(site.bins)
    return SiteInfo(
        site=site.site,
        version=site.version,
        digest=rules.digest,
        languages=list(site.languages),
        name=site.name,
        choices=[
            Choice(choice=name, colour=place.colour, name=place.name, text=place.text)
            for name, place in places.items()
        ],
        superclasses=site.superclasses,
        items=site.items,
    )
