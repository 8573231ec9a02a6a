"""The list of public names, once: type checkers read it, and so does the package itself."""

from reid_core.config import RunConfig as RunConfig
from reid_core.contract.batches import Batch as Batch
from reid_core.contract.context import RunContext as RunContext
from reid_core.contract.criterion import (
    IdentityCriterion as IdentityCriterion,
    IdentityOutput as IdentityOutput,
)
from reid_core.contract.encoder import Encoder as Encoder
from reid_core.contract.events import (
    EpochEnded as EpochEnded,
    Evaluated as Evaluated,
    Event as Event,
    RunBegan as RunBegan,
    RunEnded as RunEnded,
    StepEnded as StepEnded,
)
from reid_core.contract.fields import (
    SHARED_FIELDS as SHARED_FIELDS,
    FieldKind as FieldKind,
    FieldSpec as FieldSpec,
)
from reid_core.contract.hookspecs import hookimpl as hookimpl
from reid_core.contract.labelers import LabelContext as LabelContext, Labeler as Labeler
from reid_core.contract.model import (
    CLASS_TOKEN as CLASS_TOKEN,
    ENCODER_MAP as ENCODER_MAP,
    Branch as Branch,
    Embedding as Embedding,
    Supervision as Supervision,
    Tap as Tap,
)
from reid_core.contract.plugin import (
    EncoderProvider as EncoderProvider,
    Need as Need,
    Plugin as Plugin,
    PoolingProvider as PoolingProvider,
    Settings as Settings,
)
from reid_core.contract.samples import (
    Counts as Counts,
    DataProvider as DataProvider,
    DataRequest as DataRequest,
    DataSet as DataSet,
    Sample as Sample,
    Source as Source,
    SourceRequest as SourceRequest,
)
from reid_core.contract.stages import Stage as Stage, StageResult as StageResult, Start as Start
from reid_core.contract.step import (
    Group as Group,
    LinearRamp as LinearRamp,
    LossTerm as LossTerm,
    Optimiser as Optimiser,
    Pass as Pass,
    Schedule as Schedule,
    Synthetic as Synthetic,
    Update as Update,
    Weights as Weights,
)
from reid_core.contract.vectors import Embedded as Embedded
from reid_core.contract.views import (
    EvaluationView as EvaluationView,
    Metric as Metric,
    PassView as PassView,
    StepView as StepView,
    UpdateReport as UpdateReport,
)
from reid_core.data.augmentation import (
    normalise as normalise,
    pixels_of as pixels_of,
    unit_images as unit_images,
)
from reid_core.data.clips import frames_of as frames_of
from reid_core.data.looking import (
    clean_batches as clean_batches,
    evenly as evenly,
    image_sheet as image_sheet,
)
from reid_core.data.sidecars import side_car_files as side_car_files
from reid_core.errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    ConflictError as ConflictError,
    DataError as DataError,
    DeclarationError as DeclarationError,
    DeviceError as DeviceError,
    OutputError as OutputError,
    PluginError as PluginError,
    ReidError as ReidError,
    UnknownNameError as UnknownNameError,
    did_you_mean as did_you_mean,
)
from reid_core.first_use import on_first_use as on_first_use
from reid_core.model.blocks import GlobalPool as GlobalPool
from reid_core.model.criteria import CrossEntropyTriplet as CrossEntropyTriplet
from reid_core.model.embedder import Embedder as Embedder
from reid_core.model.encoder import (
    NoEncoder as NoEncoder,
    Renormalise as Renormalise,
    TimmEncoder as TimmEncoder,
)
from reid_core.model.gradcam import grad_cam as grad_cam
from reid_core.model.layouts import Layout as Layout
from reid_core.model.losses import (
    batch_hard_triplet as batch_hard_triplet,
    identity_cross_entropy as identity_cross_entropy,
)
from reid_core.model.pictures import Picture as Picture
from reid_core.model.precision import (
    at_least_float32 as at_least_float32,
    full_precision as full_precision,
    inner_products as inner_products,
)
from reid_core.model.pretrained import (
    Filled as Filled,
    WeightsFile as WeightsFile,
    fill_weights as fill_weights,
    read_weights as read_weights,
)
from reid_core.outputs import (
    FIGURE_SUFFIXES as FIGURE_SUFFIXES,
    PICTURE_SUFFIXES as PICTURE_SUFFIXES,
    append_json as append_json,
    checked_folder as checked_folder,
    checked_output as checked_output,
    whole_file as whole_file,
    write_json as write_json,
    write_text as write_text,
)
from reid_core.runs.continuing import is_finished as is_finished, run_once as run_once
from reid_core.runs.finding import (
    find_protocol as find_protocol,
    make_embedder as make_embedder,
    open_context as open_context,
    open_dataset as open_dataset,
    open_source as open_source,
)
from reid_core.runs.loading import load_embedder as load_embedder
from reid_core.runs.running import build_run as build_run, restore as restore, run as run
from reid_retrieval.protocols import (
    EveryGallery as EveryGallery,
    JunkRule as JunkRule,
    Protocol as Protocol,
    SingleShot as SingleShot,
    Subset as Subset,
)

__all__: list[str]
__version__: str
