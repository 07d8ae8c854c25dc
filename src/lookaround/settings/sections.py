"""Every setting once: its type, default, range and description, and whether it affects results."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    StringConstraints,
    model_validator,
)
from pydantic.fields import FieldInfo

MANY = 1_000_000_000  # the most of what no other bound is known of
Reading = Literal["causal", "bidirectional", "prefix"]
# a lone text is a list of one
Texts = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


def _fraction(value: Any) -> Any:
    """A number written as a fraction, such as 1/8."""
    over, slash, under = value.partition("/") if isinstance(value, str) else (value, "", "")
    try:
        return float(over) / float(under) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


Share = Annotated[float, BeforeValidator(_fraction)]


def _listed(value: Any) -> Any:
    """Names separated by commas, in one text or several, as a list of each once."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(part, str) for part in given):
        return value
    names = [name.strip() for part in given for name in part.split(",")]
    return [*dict.fromkeys(name for name in names if name)]


Names = Annotated[list[str], BeforeValidator(_listed)]
AFFECTS_RESULT: dict[str, JsonValue] = {"affects_result": True}


def result(*default: Any, **options: Any) -> Any:
    """A field that results depend on, so that a run goes on only where it is the same; others may
    change.
    """
    return Field(*default, json_schema_extra=AFFECTS_RESULT, **options)


ROW = (16, 128)  # rows of a step, tokens of a row
# {preset: the same of larger ones}
ROWS = {
    "mini": (32, 256),
    "small": (64, 512),
    "base": (64, 1024),
    "large": (128, 1024),
    "xl": (256, 2048),
}


# what stands where pictures are read and nothing else was given: {(section, field): value}
PICTURES: dict[tuple[str, str], Any] = {
    ("", "objectives"): "ar, rar, mlm(rate=0.5), dar, vmlm",
    ("data", "validation"): 0.1,
    ("data", "test"): 0.25,
    ("train", "batch"): 32,
    ("evaluate", "protocols"): ["probe", "finetune", "bits_per_byte", "reconstruction"],
    ("evaluate", "finetune_labels"): [100],
    ("evaluate", "finetune_draws"): [3],
    ("evaluate", "finetune_epochs"): [25],
    ("evaluate", "finetune_rates"): [1.0, 3.0],
    ("evaluate", "samples"): 8,
    ("compare", "budget"): "7.5e11flops",
}


class _Section(BaseModel):
    # deferred: the command line reads the fields of all sections and validates few
    model_config = ConfigDict(
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        defer_build=True,
        coerce_numbers_to_str=True,  # a budget of 5_000_000
    )

    def result_fields(self) -> dict[str, Any]:
        """{field: value} of the fields that results depend on, as plain data."""
        marked = {
            name
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra == AFFECTS_RESULT
        }
        return self.model_dump(mode="json", include=marked)


def _lone(value: Any) -> Any:
    """A list of one as what it holds."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items[0] if len(items) == 1 else items or None


class DataSettings(_Section):
    """Where the text comes from and how it becomes tokens."""

    corpus: Annotated[str | list[str] | None, BeforeValidator(_lone)] = Field(
        None,
        description="text: .txt .jsonl .json .csv .tsv .parquet (.gz .bz2 .xz .zst), several of "
        "those, a folder of them, or a datasets name; none: the standard library of the running "
        "Python",
    )
    images: Annotated[str | list[str] | None, BeforeValidator(_lone)] = Field(
        None,
        description="pictures in place of a text: a folder with one folder a class, IMAGES.npy "
        "beside LABELS.npy, or a datasets name; digits: those that scikit-learn has",
    )
    patch: int | None = result(
        None,
        ge=1,
        le=32,
        description="pixels a side of a patch of a picture, which is a token; none: 1 up to 16 x "
        "16 pixels, else 4 where it divides them",
    )
    text_column: str | None = Field(
        None,
        description="column or field (a.b) that holds the text of corpus and tasks; several with "
        "commas between them are joined; none: it is looked for",
    )
    separator: str | None = Field(
        None,
        description="what stands between documents of a text file: blank (lines), line, file "
        r"(nothing), a mark such as <|endoftext|> or \n\n\n, or a number of characters to cut "
        "after; none: as the file shows",
    )
    encoding: str = Field(
        "utf-8",
        description="of text: utf-8, latin-1, cp1252 ..; replace: UTF-8, other bytes become U+FFFD "
        "and are counted",
    )
    tasks: Texts = Field(
        default_factory=list,
        description="labelled texts or words, or minimal pairs: a table, CoNLL columns or a "
        "folder; PATH:COLUMN names the labels; repeatable",
    )
    label_column: str | None = Field(
        None, description="column or field of the labels of tasks; PATH:COLUMN overrules it"
    )
    no_label: Texts = Field(
        default_factory=list,
        description="a label that means 'no label': its rows are left out (-1; '' for a missing "
        "one); repeatable",
    )
    metrics: dict[str, Literal["accuracy", "matthews", "pearson", "span_f1"]] = Field(
        default_factory=dict, description="metric by task name; none: accuracy, or the task's own"
    )
    tokenizer: str | None = Field(
        None, description="a Hugging Face tokenizer; none: a byte-level BPE trained here"
    )
    vocabulary: int | None = result(
        None,
        ge=1,
        le=1 << 20,
        description="tokens of the BPE (none: the preset's), or codes of "
        "pictures (none: 128 patches, or the grey levels in use)",
    )
    pack: bool = result(False, description="several short documents in a row, isolated by the mask")
    validation: float = result(
        0.05,
        gt=0,
        lt=0.5,
        description="share of the documents for validation; of pictures 0.1",
    )
    test: float = result(
        0.05,
        gt=0,
        lt=0.5,
        description="share of the documents for testing; of pictures 0.25",
    )
    split_seed: int = result(0, ge=0, le=1 << 62, description="seed of the split by document")


class ModelSettings(_Section):
    """The backbone."""

    preset: Literal["pico", "nano", "tiny", "mini", "small", "base", "large", "xl"] = result(
        "nano",
        description="size of a fresh Llama; small has 30M parameters, base 110M, large 342M, xl 1B",
    )
    init: str | None = Field(
        None, description="folder or hub name of a model to continue from, in place of a preset"
    )
    context: int = result(
        ROW[1],
        ge=4,
        le=1 << 20,
        description="tokens per row: the training length; larger presets have more "
        "(docs/training.md)",
    )
    precision: Literal["auto", "fp32", "bf16", "fp64"] = result(
        "auto", description="auto: bf16 where it pays"
    )
    attention: Literal["dense", "flex"] = Field(
        "dense",
        description="how rows that need a mask are attended to: dense (a mask of the size of the "
        "scores), flex (FlexAttention, by blocks; a Llama on a GPU)",
    )
    compile: bool | Literal["step"] = Field(
        False,
        description="torch.compile: true for each layer of the decoder by itself, step for a whole "
        "forward and backward pass",
    )


class TrainSettings(_Section):
    """The loop."""

    batch: int = result(
        ROW[0],
        ge=1,
        le=1 << 20,
        description="rows per step, over all processes; larger presets have more "
        "(docs/training.md)",
    )
    micro_batch: int | None = Field(
        None, ge=1, le=1 << 20, description="rows per forward pass of a process; none: all of them"
    )
    parallel: Literal["none", "ddp", "fsdp"] = Field(
        "ddp",
        description="how the processes of torchrun share a run: none (there is one), ddp (each has "
        "a copy of the model), fsdp (each has a shard)",
    )
    shards: int | None = Field(
        None,
        ge=1,
        le=1 << 20,
        description="processes that a copy of the model is spread over with fsdp; none: all",
    )
    learning_rate: float | None = result(
        None, gt=0, lt=1, description="peak of the schedule; none: 0.001 x sqrt(128 / width)"
    )
    head_rate: float = result(
        1.0, gt=0, description="learning rate of heads beyond the LM head, over the trunk's"
    )
    weight_decay: float = result(0.1, ge=0, description="of AdamW, on matrices alone")
    beta1: float = result(0.9, ge=0, lt=1, description="of AdamW: memory of the gradient")
    beta2: float = result(0.98, ge=0, lt=1, description="of AdamW: memory of its square")
    clip: float = result(1.0, gt=0, description="largest norm of the gradient")
    warmup: float = result(
        0.02, ge=0, lt=1, description="share of the budget with a rising learning rate"
    )
    decay: float = result(
        0.2, ge=0, le=1, description="last share of the budget, with a learning rate falling to 0"
    )
    checkpoint_every: int = Field(500, ge=1, le=MANY, description="steps between checkpoints")
    log_every: int = Field(10, ge=1, le=MANY, description="steps between lines of metrics.jsonl")


class EvaluateSettings(_Section):
    """Both halves: classification and generation."""

    probe_train: int = result(
        3000, ge=10, le=MANY, description="labelled examples that a probe is fitted on, at most"
    )
    probe_test: int = result(
        2000, ge=10, le=MANY, description="labelled examples that a probe is scored on, at most"
    )
    protocols: Names = Field(
        ["probe", "tokens", "bits_per_byte"],
        description="what models are evaluated by (docs/evaluation.md); a task that none of them "
        "is for gets all that are",
    )
    token_train: int = result(
        2000,
        ge=10,
        le=MANY,
        description="labelled sentences that a probe of words is fitted on, at most",
    )
    token_test: int = result(
        1000,
        ge=10,
        le=MANY,
        description="labelled sentences that a probe of words is scored on, at most",
    )
    finetune_labels: list[Annotated[int, Field(ge=10, le=MANY)]] = result(
        [64, 256, 1024, 4096],
        min_length=1,
        max_length=100,
        description="numbers of labelled examples that fine-tuning learns from, in order",
    )
    finetune_draws: list[Annotated[int, Field(ge=1, le=1000)]] = result(
        [5, 5, 3, 1], max_length=100, description="of the examples of each number"
    )
    finetune_epochs: list[Annotated[int, Field(ge=1, le=10_000)]] = result(
        [30, 15, 4, 2], max_length=100, description="of fine-tuning on each number"
    )
    finetune_rates: list[PositiveFloat] = result(
        [0.3, 1.0, 3.0],
        min_length=1,
        max_length=100,
        description="learning rates that fine-tuning chooses from; 1 is what pretraining takes at "
        "the model's width",
    )
    pairs: int = result(100, ge=1, le=MANY, description="minimal pairs of each phenomenon, at most")
    order_train: int = result(
        3000, ge=120, le=MANY, description="texts that probes of word order are fitted on, at most"
    )
    order_test: int = result(
        1500, ge=120, le=MANY, description="texts that probes of word order are scored on, at most"
    )
    positions: int = result(256, ge=2, le=MANY, description="scored tokens per prefix length")
    prefix_lengths: list[int] | None = result(
        None, max_length=100, description="lower ends of the strata; none: 1, 2, 4 .. context/2"
    )
    context: int | None = Field(
        None,
        ge=2,
        le=MANY,
        description="tokens that `evaluate` reads a model through, at most; none: the training "
        "length of a run, all positions of another model",
    )
    generation_mode: Reading | None = result(
        None, description="how generation reads a model; none: causal if its training ended with it"
    )
    classification_mode: Reading | None = result(
        None, description="how a probe reads a model; none: as it was last trained bidirectionally"
    )
    reconstructed: int = result(
        256, ge=2, le=MANY, description="test pictures whose hidden patches are filled in, at most"
    )
    samples: int = Field(
        3,
        ge=0,
        le=10_000,
        description="continuations of test documents that the report shows; of pictures 8",
    )
    sample_tokens: int = Field(48, ge=1, le=1 << 20, description="tokens of such a continuation")
    temperature: float = Field(0.8, ge=0, description="of those continuations")
    bootstrap: int = Field(2000, ge=100, le=1_000_000, description="resamples of an interval")


class PlanSettings(_Section):
    """A run that is still to be paid for."""

    objective: str = Field("ar", description="a spec")
    budget: str | None = Field(
        None, description="tokens (5B) or FLOPs (2e19flops); none: 20 tokens a parameter"
    )
    memory: float | None = Field(
        None, gt=0, le=1e6, description="GB of one device, to say what fits besides those listed"
    )
    prices: Texts = Field(
        default_factory=list, description="of an hour of a device: h100=2.99; repeatable"
    )
    utilization: float = Field(
        0.3,
        gt=0,
        le=1,
        description="share of the peak of a device that training reaches; measured on an H100 with "
        "base: 0.18, compiled 0.33",
    )


class PretrainSettings(_Section):
    """One run."""

    objective: str = Field("ar", description='a spec: "ar", "0.25*ar >> 0.75*mlm(rate=0.4)"')
    budget: str = Field("5M", description="tokens (5M), FLOPs (2e15flops) or seconds (300s)")
    form: Literal["llama", "eurobert"] | None = Field(
        None, description="architecture written; eurobert reads both ways; none: what fits"
    )
    track: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(
        [], max_length=3, description="what hears of the run's metrics besides metrics.jsonl"
    )


def _cluster() -> Any:
    """Where the jobs of a study run."""
    return Field(
        None,
        description="where jobs run: a Dask scheduler (tls://HOST:8786, tcp://HOST:8786), or "
        "local:N processes; none: local processes",
    )


def _jobs() -> Any:
    """How many processes a study has here."""
    return Field(None, ge=1, le=1000, description="processes; none: one per core, or one on a GPU")


class CompareSettings(_Section):
    """The study of several objectives."""

    seeds: int = Field(1, ge=1, le=1000, description="runs per objective")
    budget: str = result(
        "3.2e12flops",
        description="of each run: tokens of ar (5M), FLOPs (2e15flops) or seconds (300s)",
    )
    equal: Literal["flops", "tokens", "seconds"] | None = result(
        None, description="what is equal; none: FLOPs, or the budget's seconds"
    )
    ladder: list[float] = Field(
        [0.125, 0.25, 0.5, 1.0], max_length=100, description="rungs, as shares of the budget"
    )
    until: Share | None = Field(
        None,
        description="the rung to stop after, such as 1/8; without it the same command goes on",
    )
    lr_factors: list[float] = result(
        [1.0, 2.0, 4.0],
        max_length=100,
        description="tried at the smallest rung; one of them: no search",
    )
    weight_decays: list[float] | None = Field(
        None,
        max_length=100,
        description="tried on the first seed's ladder; none: train.weight_decay, and 2 beside it "
        "where the text is read more than 4 times",
    )
    jobs: int | None = _jobs()
    cluster: str | None = _cluster()


class ForecastSettings(_Section):
    """What the corpus says of objectives before any training."""

    enabled: bool = Field(True, description="compare makes a forecast beside its study")
    cluster: str | None = _cluster()
    context: int = result(
        1, ge=1, le=8, description="visible tokens of a context: 1 = a token, 2 = a bigram .."
    )
    rank: int = result(
        128, ge=2, le=1 << 16, description="singular values kept; features of a text"
    )
    reach: int = result(
        16, ge=1, le=1 << 16, description="largest distance of a context token from its target"
    )
    min_count: int = result(
        5, ge=1, le=MANY, description="contexts and targets expected less often are left out"
    )
    features: Literal["context", "target", "both"] = result(
        "both",
        description="what a text is averaged over: contexts, targets, or half of the rank of each",
    )
    weighting: Literal["spectral", "unit"] = result(
        "spectral", description="a token's feature as the theory has it, or scaled to length 1"
    )
    hash_bits: int | None = result(
        None,
        ge=1,
        le=48,
        description="hash n-grams to 2^bits rows; none: exact, as far as they fit 64 bits",
    )
    far_lag: int | None = result(
        None,
        ge=2,
        le=MANY,
        description="lag of the control that predicts one far token; none: 64, or half of the "
        "longest document",
    )


class SpeculateSettings(_Section):
    """Several tokens per pass for a model that exists."""

    heads: Literal["medusa", "medusa-own", "hydra", "linear", "sequential", "shared"] | None = (
        result(
            None,
            description="kind of heads to train; none: the model's own, or hydra where it has none",
        )
    )
    depths: int = result(4, ge=1, le=16, description="tokens beyond the next one that are drafted")
    decay: float = result(0.8, gt=0, le=1, description="loss weight of depth k is decay^k")
    budget: str = result(
        "2M", description="of the heads' training: tokens (2M) or FLOPs (1e15flops)"
    )
    samples: int = result(
        200_000,
        ge=0,
        le=MANY,
        description="tokens of the model's own samples that heads learn from; 0: none",
    )
    sample_temperature: float = result(0.7, ge=0, description="of those samples")
    text: bool = result(True, description="heads also learn from the corpus itself")
    coverage: float = result(
        0.99,
        gt=0,
        le=1,
        description="drafts are taken from the tokens that make up this share of the text",
    )
    joint: bool = result(
        False, description="after the heads, train heads and model together (Medusa-2)"
    )
    joint_weight: float = result(
        0.2, gt=0, description="weight of the heads' loss beside the model's in joint training"
    )
    lora: int | None = result(
        None, ge=1, le=1 << 16, description="rank of adapters in joint training; none: all weights"
    )
    prompts: int = result(
        200,
        ge=1,
        le=1_000_000,
        description="held-out prompts for calibration, and as many others for measuring",
    )
    prompt_tokens: int = result(32, ge=2, le=1 << 20, description="tokens of such a prompt")
    new_tokens: int = result(
        64, ge=2, le=1 << 20, description="tokens that each prompt is continued by"
    )
    batches: list[Annotated[int, Field(ge=1, le=1 << 16)]] = Field(
        [1, 2, 4, 8, 16, 32],
        min_length=1,
        max_length=100,
        description="numbers of sequences that are measured",
    )
    rounds: int = Field(
        5,
        ge=1,
        le=100_000,
        description="turns of each way of generating, at least; intervals are over turns",
    )
    measure: Literal["quick", "full"] = Field(
        "full",
        description="quick: the first number of sequences alone, with a quarter of the prompts",
    )


class SyntheticSettings(_Section):
    """Does an objective look ahead? Synthetic tasks."""

    tasks: Texts = Field(
        ["pathstar(2,3)", "pathstar(3,3)"],
        min_length=1,
        description="such as pathstar(2,5), addition(3), countdown(3,50), hmm(stay=0.9), "
        "recall(300,4)",
    )
    objectives: str = Field(
        "ar, reverse, mtp(n=2, weights=1.0, matched=True), teacherless",
        description="comma-separated specs",
    )
    seeds: int = Field(2, ge=1, le=1000, description="runs per task and objective")
    steps: int = result(
        5000, ge=1, le=MANY, description="of every run; those that solve their task end sooner"
    )
    budget: str | None = result(
        None,
        description="of every run, in FLOPs or tokens, such as 1e12flops; none: synthetic.steps",
    )
    batch: int = result(64, ge=1, le=1 << 20, description="problems per step")
    learning_rate: float = result(4e-3, gt=0, lt=1, description="peak")
    lr_factors: list[float] = Field(
        [0.5, 1.0],
        min_length=1,
        max_length=100,
        description="tried on a seed of their own; a single one leaves the search out",
    )
    search: Literal["each", "first"] = Field(
        "each", description="learning rates are tried on each task, or on the first for all tasks"
    )
    trial: float = result(
        0.4, gt=0, le=1, description="length of such a trial, as a share of the steps"
    )
    labels: int | None = result(
        None, ge=2, le=10_000, description="of a graph's nodes; none: two for each node"
    )
    query: Literal["after", "before"] = result(
        "after", description="where start and goal stand to the edges"
    )
    edges: Literal["shuffled", "arm"] = result(
        "shuffled", description="order in which edges are listed"
    )
    samples: int | None = result(
        None, ge=1, le=MANY, description="size of a fixed training set; none: every problem is new"
    )
    queries: int = result(
        10_000, ge=1, le=1_000_000, description="held-out problems that a model is scored on"
    )
    watched: int = result(
        1000,
        ge=1,
        le=1_000_000,
        description="validation problems behind each point of a learning curve",
    )
    every: int = result(250, ge=1, le=MANY, description="steps between points of a learning curve")
    stop_at: float | None = result(
        0.995,
        gt=0,
        le=1,
        description="a run ends when two points in a row are this right; none: never",
    )
    control: bool = Field(True, description="also train ar on answers that end with the first hop")
    jobs: int | None = _jobs()
    cluster: str | None = _cluster()


class GenerationConfig(_Section):
    """How a model continues texts."""

    model_config = ConfigDict(frozen=True)

    max_new_tokens: int = Field(
        64, ge=1, le=MANY, description="tokens that a text is continued by, at most"
    )
    temperature: float = Field(
        0.8, ge=0, description="of the next token's distribution; 0 takes the likeliest token"
    )
    top_k: int = Field(
        0, ge=0, le=MANY, description="draw from the k likeliest tokens only; 0: from all"
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="draw from the fewest tokens that together have this probability; 1: from all",
    )
    stop: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=list, description="strings after which a text ends"
    )
    order: Literal["left", "confidence"] = Field(
        "left",
        description="which masks a bidirectional model fills first: the leftmost, or those whose "
        "token is most certain",
    )
    per_pass: int = Field(
        1, ge=1, le=MANY, description="masks that a bidirectional model fills per pass"
    )
    accept: Literal["exact", "typical"] = Field(
        "exact",
        description="which drafts of look-ahead heads stand: 'exact' leaves the distribution of "
        "the text as it is; 'typical' is faster when sampling, but changes it",
    )
    mode: Literal["causal", "bidirectional", "prefix"] | None = Field(
        None,
        description="how the model is read; none: causally if the end of its training was causal",
    )
    context: int | None = Field(
        None,
        ge=2,
        le=MANY,
        description="tokens that the model is read through, at most; none: the training length of "
        "a run, all positions of another model",
    )
    chat: bool = Field(
        False,
        description="each prompt is a user's message, put through the tokenizer's chat template",
    )


class Settings(_Section):
    """All sections of a configuration file."""

    seed: int = result(0, ge=0, le=1 << 62, description="of data order, draws and weights")
    objectives: str = Field(
        "ar, mlm, dar, ar + vmlm",
        description='specs with commas between: "ar, mlm(rate=0.4), ar + vmlm"',
    )
    data: DataSettings = Field(default_factory=DataSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    planned: PlanSettings = Field(default_factory=PlanSettings)
    compare: CompareSettings = Field(default_factory=CompareSettings)
    forecast: ForecastSettings = Field(default_factory=ForecastSettings)
    speculate: SpeculateSettings = Field(default_factory=SpeculateSettings)
    synthetic: SyntheticSettings = Field(default_factory=SyntheticSettings)
    generate: GenerationConfig = Field(default_factory=GenerationConfig)

    @model_validator(mode="after")
    def _follow(self) -> Self:
        """What was not given follows the preset (batch, context), or suits pictures."""
        rows = None if self.model.init is not None else ROWS.get(self.model.preset)
        follow: dict[tuple[str, str], Any] = {}
        if rows is not None:
            follow |= zip((("train", "batch"), ("model", "context")), rows, strict=True)
        if self.data.images is not None:
            follow = copy.deepcopy(PICTURES) | follow
        for (section, name), value in follow.items():
            part: BaseModel = getattr(self, section) if section else self
            if name in part.model_fields_set:
                continue
            if section:
                part = part.model_copy(update={name: value}, deep=False)
                setattr(self, section, part)
            else:
                self.__dict__[name] = value
            part.model_fields_set.discard(name)  # nobody gave it
        return self

    def identity(self, *names: str) -> dict[str, Any]:
        """{section: {field: value}} of what results depend on in the sections or fields
        ("model.preset") `names`.

        "seed" stands for itself. Paths and names of corpus, tokenizer, model and tasks are not
        among them: fingerprints of their content are what a run is known by.
        """
        found: dict[str, Any] = {}
        for name in names:
            section, _, field = name.partition(".")
            part = getattr(self, section)
            if isinstance(part, _Section):
                fields = part.result_fields()
                part = found.get(section, {}) | ({field: fields[field]} if field else fields)
            found[section] = part
        return found


def sections() -> dict[str, type[_Section]]:
    """The sections of a configuration file by name."""
    fields = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {
        name: kind
        for name, kind in fields.items()
        if isinstance(kind, type) and issubclass(kind, _Section)
    }


def field_of(name: str) -> FieldInfo:
    """The field of a dotted name, "seed" or "train.batch"."""
    section, _, field = name.rpartition(".")
    return (sections()[section] if section else Settings).model_fields[field]
