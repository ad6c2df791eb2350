"""The flags that choose and change the experiment, and the groups in which commands take them."""

from rkkd_cli.cli.flags.flag import Flag

WHAT, HOW, RANK, WHERE = "What to train", "How to train it", "The ranking loss", "Where and how"

# fmt: off
WORDS = Flag("words", list[str] | None, positional=True, metavar="PRESET KEY=VALUE",
    help="A preset (see `rkkd ls presets`), a TOML file or the folder of a run to repeat, then "
         "any number of overrides such as training.weight_decay=1e-4.")

DATASET = Flag("dataset", str | None, key="dataset.name", panel=WHAT,
    help="Dataset to train and test on; see `rkkd ls datasets`.")
DATA_ROOT = Flag("data_root", str | None, key="dataset.root", panel=WHAT,
    help="Folder of the images, or for downloads.")
IMAGE_SIZE = Flag("image_size", int | None, key="dataset.image_size", panel=WHAT, metavar="N",
    help="Make the images of a folder N×N pixels.")
RESIZE = Flag("resize", str | None, key="dataset.resize", panel=WHAT, metavar="crop|squash|pad",
    help="How a folder's images of another shape are made to fit: cut to the middle square, "
         "scaled to a square, or padded with black.")
TEST_SHARE = Flag("test_share", float | None, key="dataset.test_share", panel=WHAT,
    help="Share of an image folder's images held out for testing, if it has no test/.")
LIMIT_TRAIN = Flag("limit_train", int | None, key="dataset.limit_train", panel=WHAT, metavar="N",
    help="Train on a class-balanced subset of at most N images.")
LIMIT_TEST = Flag("limit_test", int | None, key="dataset.limit_test", panel=WHAT, metavar="N",
    help="Test on a class-balanced subset of at most N images.")
VAL_SHARE = Flag("val_share", float | None, key="dataset.val_share", panel=WHAT,
    help="Share of the training images held out for validation.")
STREAM = Flag("stream", bool | None, key="dataset.streaming", panel=WHAT,
    option=("--stream/--no-stream",),
    help="Read an image folder from the disk batch by batch, or hold it in memory; default: one "
         "of more than 4 GiB, once decoded, is streamed.")
TEACHER = Flag("teacher", str | None, key="teacher.model", panel=WHAT,
    help="The teacher's model, see `rkkd ls models`; or your own, as file.py:NAME.")
TEACHER_WEIGHTS = Flag("teacher_weights", str | None, key="teacher.weights", panel=WHAT,
    option=("--teacher-weights", "--teacher-checkpoint"), metavar="FILE|NAME",
    help="The teacher's weights, used as they are if they fit: a file, `pretrained`, or a "
         "library's own name of its weights.")
STUDENT = Flag("student", str | None, key="student.model", panel=WHAT,
    help="The student's model, see `rkkd ls models`; or your own, as file.py:NAME.")
STUDENT_WEIGHTS = Flag("student_weights", str | None, key="student.weights", panel=WHAT,
    metavar="FILE|NAME",
    help="The weights that the student begins with: a file, `pretrained`, or a library's own name "
         "of its weights.")
SEEDS = Flag("seeds", str | None, key="seeds", panel=WHAT,
    help="Seeds to train with: 0, or 0,1,2, or 0:3 (0, 1 and 2).")

METHOD = Flag("method", str | None, key="method.name", panel=HOW, metavar="NAME",
    help="The distillation method, see `rkkd ls methods`; or your own, as file.py:NAME.")
STANDARDIZE_LOGITS = Flag("standardize_logits", bool | None, key="method.standardize_logits",
    panel=HOW,
    help="Standardise each image's logits in the method's terms.")
EPOCHS = Flag("epochs", int | None, key="training.epochs", panel=HOW,
    help="Passes over the training images.")
BATCH_SIZE = Flag("batch_size", int | None, key="training.batch_size", panel=HOW,
    help="Images per batch.")
LR = Flag("lr", float | None, key="training.lr", panel=HOW,
    help="Initial learning rate.")
PATIENCE = Flag("patience", int | None, key="training.patience", panel=HOW, metavar="N",
    help="End an arm after N epochs without a better --monitor; needs --val-share.")
MIN_DELTA = Flag("min_delta", float | None, key="training.min_delta", panel=HOW,
    help="For --patience, count an epoch as better only if it improves --monitor by more than "
         "this.")
MONITOR = Flag("monitor", str | None, key="training.monitor", panel=HOW, metavar="METRIC",
    help="Metric of the validation split that selects each arm's best epoch, whose weights are "
         "kept; default with --patience: val_acc, of embeddings val_map_at_r.")
ALPHA = Flag("alpha", float | None, key="method.alpha", panel=HOW,
    help="Weight of the KL divergence; cross-entropy gets 1 − alpha.")
TEMPERATURE = Flag("temperature", float | None, key="method.temperature", panel=HOW,
    help="Temperature of the KL divergence.")

RANK_GRAD = Flag("rank_grad", str, panel=RANK, default="both", metavar="on|off|both",
    help="Train the arms that backpropagate the ranking loss (on), those that only log it "
         "(off), or both.")
RANK_WEIGHT = Flag("rank_weight", float | None, key="rank.weight", panel=RANK,
    help="Weight of the ranking loss in the objective.")
RANK_STEEPNESS = Flag("rank_steepness", float | None, key="rank.steepness", panel=RANK,
    help="Steepness k of the surrogate.")
RANK_SURROGATE = Flag("rank_surrogate", str | None, key="rank.surrogate", panel=RANK,
    help="Smooth function in place of the sign; see `rkkd ls surrogates`.")
RANK_CHANNELS = Flag("rank_channels", str | None, key="rank.channels", panel=RANK,
    help="Classes that are ranked, by the teacher's logits of each image: all, top:SHARE or "
         "bottom:SHARE, or their number: top:64; or union:64, the top ones of teacher and student.")
RANK_STANDARDIZE = Flag("rank_standardize", bool | None, key="rank.standardize", panel=RANK,
    help="Rank z-scores of the logits instead of the logits.")
RANK_OVER = Flag("rank_over", str | None, key="rank.over", panel=RANK,
    help="What is ranked: the classes of each image, the images of each batch by the logits of "
         "each class, or both: classes|images|both.")

DEVICE = Flag("device", str | None, key="device", panel=WHERE,
    help="Device to compute on: auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps.")
PRECISION = Flag("precision", str | None, key="precision", panel=WHERE,
    help="Floating-point precision: fp32, tf32 (on CUDA) or bf16 (autocast).")
DETERMINISTIC = Flag("deterministic", bool | None, key="deterministic", panel=WHERE,
    help="Let CUDA repeat every number exactly, at some cost; a CPU always does.")
STACK = Flag("stack", bool | None, key="stacked", panel=WHERE, option=("--stack/--no-stack",),
    help="Let arms of one architecture step as one stacked student, or one after another; "
         "default: on CUDA what a trial shows to be faster, elsewhere one after another.")
CUDA_GRAPH = Flag("cuda_graph", bool | None, key="cuda_graph", panel=WHERE,
    option=("--cuda-graph/--no-cuda-graph",),
    help="On CUDA, record a step of all arms as one graph and replay it, once its results match "
         "those of the step itself.")
CACHE_TEACHER = Flag("cache_teacher", bool | None, key="cache_teacher", panel=WHERE,
    option=("--cache-teacher/--no-cache-teacher",),
    help="Keep the teacher's logits on disk and read them when the same stream comes again; no "
         "number changes (cache_teacher=fp16: half the size, rounded; cache_teacher=top:64: of the "
         "top 64 classes).")
SYNC_BATCHNORM = Flag("sync_batchnorm", bool | None, key="sync_batchnorm", panel=WHERE,
    help="Under torchrun on GPUs, let batch normalisation see the whole batch, not each rank's "
         "part.")
# fmt: on

DATA = (
    DATASET, DATA_ROOT, IMAGE_SIZE, RESIZE, TEST_SHARE, VAL_SHARE, LIMIT_TRAIN, LIMIT_TEST, STREAM,
)  # fmt: skip
MODELS = (TEACHER, TEACHER_WEIGHTS, STUDENT, STUDENT_WEIGHTS)
TRAINING = (SEEDS, METHOD, STANDARDIZE_LOGITS, EPOCHS, BATCH_SIZE, LR, PATIENCE, MIN_DELTA, MONITOR)
OBJECTIVE = (ALPHA, TEMPERATURE)
RANKING = (
    RANK_GRAD,
    RANK_WEIGHT,
    RANK_STEEPNESS,
    RANK_SURROGATE,
    RANK_CHANNELS,
    RANK_STANDARDIZE,
    RANK_OVER,
)
COMPUTE = (DEVICE, PRECISION, DETERMINISTIC, STACK, CUDA_GRAPH, CACHE_TEACHER, SYNC_BATCHNORM)
