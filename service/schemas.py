"""The words of the HTTP API: what a client gets, field by field."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from service.review.records import Reason as ReviewReason
from service.sorting import Reason

Decision = Literal["sort", "manual"]
DoubtReason = Literal["too_dark", "too_bright", "blurred", "empty", "unfamiliar"]


class Part(BaseModel):
    """Of an answer: nothing that is not described, and nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """One of fields that are ours and right, and all there: nothing is looked at.

        `model_construct` does the same field by field, and takes three times as long.
        """
        one = cls.__new__(cls)
        put = object.__setattr__
        put(one, "__dict__", fields)
        put(one, "__pydantic_fields_set__", set(fields))
        put(one, "__pydantic_extra__", None)
        put(one, "__pydantic_private__", None)
        return one


class Problem(Part):
    """Problem details (RFC 9457) with two members of our own: `reason` and `request_id`."""

    type: str = Field(description="Identifies the kind of problem.")
    title: str = Field(description="The kind of problem in a few words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was expected and what came.")
    reason: str = Field(description="A short stable word, the same as in the metrics.")
    request_id: str = Field(description="The id to quote when asking about this.")


class ProtocolProblem(Part):
    """A problem in the words of the Open Inference Protocol, and its reason."""

    error: str = Field(description="What was expected and what came.")
    reason: str = Field(description="A short stable word, the same as in the metrics.")


class Reference(Part):
    """An item of the context bank that got much attention; with matching, by its likeness."""

    id: str
    superclass: str
    subclass: str | None
    source: str | None
    weight: float = Field(description="Share of the attention that it got, averaged over heads.")


class Thing(Part):
    """What a sorting guide names, and the photo looks like."""

    name: str
    superclass: str
    weight: float = Field(description="Share of all attention: a part of `self_weight`.")


class Doubt(Part):
    """Why a photo is no good ground for a decision, whatever the model says of it."""

    reason: DoubtReason
    detail: str = Field(description="What was measured and what is needed.")
    measure: float = Field(description="What was measured.")
    limit: float = Field(description="What it has to reach, or for `too_bright` not to pass.")


class Sorting(Part):
    """Which of a site's bins the thing goes into: where mistakes are expected to cost least."""

    site: str
    version: str = Field(description="Of the site's rules.")
    digest: str = Field(description="Of the site's file: tells rules of the same version apart.")
    bin: str = Field(description="A bin of the site, or `manual`: a person has to look.")
    colour: str = Field(description="Of the bin, as #rrggbb.")
    language: str = Field(description="Of `name` and `text`: what Accept-Language likes best.")
    name: str
    text: str = Field(description="What a person needs to know who throws it in.")
    best: str = Field(description="The bin of least expected cost, whether it was chosen or not.")
    probability: float = Field(description="That the thing belongs into `best`.")
    probabilities: dict[str, float] = Field(description="Of each bin, and of `manual`.")
    expected_cost: float = Field(description="Of `bin`, in units of one ordinary mistake.")
    reasons: list[Reason] = Field(description="Why a person has to look; empty where none has to.")
    alert: bool = Field(description="Whether something hazardous may be there.")
    hazard: float = Field(description="The probability of that.")
    covering: list[str] | None = Field(
        description="Bins of which one is right with the probability that the site guarantees."
    )


class Classification(Part):
    """The answer for one photo."""

    filename: str | None = Field(description="As the client named it, without folders.")
    superclass: str = Field(description="The bin.")
    confidence: float = Field(description="Calibrated probability of `superclass`.")
    probabilities: dict[str, float] = Field(description="Calibrated, by superclass.")
    decision: Decision = Field(
        description="`sort` where the confidence reaches the model's threshold and nothing is "
        "doubted, else `manual`; with a site's rules: `manual` where they say so."
    )
    doubts: list[Doubt] = Field(
        default=[], description="What speaks against the photo; empty for a good one."
    )
    sorting: Sorting | None = Field(None, description="By the rules of a site, where there is one.")
    references: list[Reference] = Field(description="Strongest first.")
    self_weight: float = Field(
        description="Share of the attention that the photo gave to itself, or to a sorting guide."
    )
    guide: list[Thing] = Field(
        default=[], description="Of the model's guide, strongest first; empty where it has none."
    )
    review: ReviewReason | None = Field(
        default=None,
        exclude_if=lambda reason: reason is None,
        description="Why a copy of the photo was put aside for a person to look at; left out where "
        "none was.",
    )


class Embedding(Part):
    """Where one photo lies among others: near in angle means alike to the model."""

    filename: str | None = Field(description="As the client named it, without folders.")
    embedding: list[float] = Field(description="Of unit length.")


class Refusal(Part):
    """Why one photo among several got no answer."""

    filename: str | None
    error: Problem


class ModelId(Part):
    """Which model answered."""

    name: str
    version: str


class ServedModel(ModelId):
    """Which model answers from now on, and which one would after a restart."""

    at_next_start: list[str] = Field(
        description="By the settings and the models folder as they are, each `name/version`; none "
        "where the settings do not name the model. SUPERBIN_MODEL holds on to another."
    )


class ClassifyAnswer(Part):
    """One result per photo, in the order in which they came."""

    request_id: str
    model: ModelId
    results: list[Classification | Refusal]


class EmbedAnswer(Part):
    """One result per photo, in the order in which they came."""

    request_id: str
    model: ModelId
    results: list[Embedding | Refusal]


class Line(Part):
    """One photo's result, in a stream of lines."""

    index: int = Field(description="The photo's place in the request, from 0.")
    model: ModelId
    result: Classification | Embedding | Refusal


class ModelInfo(Part):
    """A bundle whose files were verified when it came."""

    name: str
    version: str
    default: bool = Field(description="Whether it answers where no model is named.")
    superclasses: list[str]
    input_height: int
    input_width: int
    variants: list[str]
    variant: str = Field(description="The one that runs, or would.")
    sha256: str = Field(description="Of that variant's file; a corrected bundle has its parent's.")
    manifest_sha256: str = Field(
        description="Of the manifest, which has the digest of every file: of all that answers "
        "follow from, the bank's items too."
    )
    confidence_threshold: float
    wanted_error_rate: float
    bank_items: int
    guide_things: int = Field(description="That its sorting guide names; 0 without one.")
    provider: str | None = Field(description="ONNX Runtime's execution provider, where loaded.")
    shadow: float | None = Field(
        default=None, description="As the shadow: the share of its model's requests that it sees."
    )


class BrokenModel(Part):
    """A bundle that is there and cannot be used."""

    name: str
    version: str
    default: bool = False
    error: str


class ModelsAnswer(Part):
    """Every bundle of the models folder, as it was found last."""

    models: list[ModelInfo | BrokenModel]


class Choice(Part):
    """Where a thing may go: a bin, or `manual`; texts by language."""

    choice: str
    colour: str
    name: dict[str, str]
    text: dict[str, str]


class SiteInfo(Part):
    """A site whose rules are in force."""

    site: str
    version: str
    digest: str
    languages: list[str]
    name: dict[str, str]
    choices: list[Choice]
    superclasses: dict[str, str] = Field(description="Where what is of no known item belongs.")
    items: dict[str, str] = Field(description="Where the context bank's subclasses belong.")


class SitesAnswer(Part):
    """Every site, and the one whose rules hold where none is named."""

    default: str | None
    sites: list[SiteInfo]


class Health(Part):
    """The state of the service, in a word."""

    status: Literal["alive", "ready"]
