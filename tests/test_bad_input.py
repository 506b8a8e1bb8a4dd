"""Whatever a user gets wrong ends in one line, exit code 2, and nothing harmed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import polars as pl
import pytest
from commands import Command, Done, process_unchanged

ROOT = Path(__file__).parents[1]
SMALL = ("dataset.rows=3000", "trainer=smoke")
TABLE = ("dataset=tabular", "dataset.path=table.csv", "trainer=smoke", "model=logistic")
FEATURES = "+dataset.features={user: {}, price: {kind: numeric}}"
TASKS = "+dataset.tasks={click: {label: clicked}, like: {label: liked}}"
COLUMNS = (FEATURES, TASKS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, a good table, and files that are broken in many ways."""
    place = tmp_path_factory.mktemp("place")
    rows = 200
    table = pl.DataFrame(
        {
            "user": [f"u{i % 20}" for i in range(rows)],
            "price": [float(i % 7) for i in range(rows)],
            "gap": [None if i % 9 == 0 else float(i % 7) for i in range(rows)],
            "notes": [f"cheap {i % 3}" for i in range(rows)],
            "day": [20220501 + i // 20 for i in range(rows)],
            "fresh": [f"only-{i}" for i in range(rows)],
            "stars": [i % 5 for i in range(rows)],
            "clicked": [i % 3 % 2 for i in range(rows)],
            "liked": [i % 4 % 3 % 2 for i in range(rows)],
            "late": [int(i >= 150 and i % 2 == 0) for i in range(rows)],
            "early": [int(i < 150 and i % 2 == 0) for i in range(rows)],
        }
    )
    table.write_csv(place / "table.csv")
    text = (place / "table.csv").read_text()
    (place / "cut.csv").write_text(text[: text.rindex(",")].rsplit(",", 3)[0])
    (place / "empty.csv").write_text("")
    (place / "header.csv").write_text(text.splitlines()[0] + "\n")
    table.write_parquet(place / "whole.parquet")
    (place / "cut.parquet").write_bytes((place / "whole.parquet").read_bytes()[:-40])
    (place / "empty.parquet").write_bytes(b"")
    (place / "noise.csv").write_bytes(bytes(range(256)) * 30)
    whole = gzip.compress(text.encode())
    (place / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (place / "table.xlsx").write_bytes(b"PK")
    (place / "a_file").write_text("a file, not a folder")
    _write_configurations(place / "mine")
    with pytest.MonkeyPatch.context() as patch, process_unchanged():
        patch.chdir(place)
        import funrec

        funrec.run_experiment("mmoe", *SMALL)
    return place


def _write_configurations(folder: Path) -> None:
    good = (ROOT / "conf" / "dataset" / "adult.yaml").read_text()
    assert "never_married:" in good
    files = {
        "dataset/twice.yaml": good.replace("never_married:", "income:"),
        "dataset/typo.yaml": good.replace("path: adult.csv", "paht: adult.csv"),
        "dataset/deep_typo.yaml": good.replace("kind: numeric", "knid: numeric"),
        "dataset/broken.yaml": good.replace("tasks:", "tasks: {", 1),
        "dataset/tabs.yaml": "defaults:\n\t- tabular\n",
        "trainer/typo.yaml": "defaults: [default, _self_]\nepoch: 3\n",
        "experiment/typo.yaml": "# @package _global_\nsede: 3\n",
        "experiment/metrics_typo.yaml": "# @package _global_\nmetrics: {gauc_wieght: none}\n",
        "experiment/wrong_group.yaml": "# @package _global_\ndefaults:\n  - override /model: mmeo\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def contents(place: Path) -> dict[str, str]:
    """Hashes of all that a run or a preparation left, but for locks and stamps, which are not contents."""
    folders = [record.parent for record in place.rglob("record.json")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_refused(done: Done, *fragments: str, lines: int | None = 1) -> None:
    assert "Traceback" not in done.err, done.err
    assert done.code == 2, done.err
    assert done.out == ""
    said = done.err.strip().splitlines()
    assert lines is None or len(said) == lines, done.err
    assert said[-1].startswith("funrec: ")
    for fragment in fragments:
        assert fragment in said[-1]


def new_folders(place: Path, before: set[Path]) -> set[Path]:
    return set((place / "outputs").glob("*/*")) - before


CASES = {
    # missing folder or file
    "missing folder": (("dataset=kuairand_pure", "dataset.root=nowhere"), ("nowhere",)),
    "missing file": ((*TABLE, *COLUMNS, "dataset.path=tabel.csv"), ("dataset.path: no such file", "table.csv")),
    "file that is no table": ((*TABLE, *COLUMNS, "dataset.path=table.xlsx"), (".csv, .tsv, .parquet", "table.xlsx")),
    # unknown column
    "column of a feature": (
        (*TABLE, TASKS, "+dataset.features={usre: {}}"),
        ("dataset.features.usre: no such column", "Did you mean user?"),
    ),
    "column of a label": (
        (*TABLE, FEATURES, "+dataset.tasks={click: {label: cliked}}"),
        ("dataset.tasks.click.label: no such column cliked", "Did you mean clicked?"),
    ),
    "column of the group": (
        (*TABLE, *COLUMNS, "dataset.group=usr"),
        ("dataset.group: no such column usr", "Did you mean user?"),
    ),
    "column of a generated log": ((*SMALL, "dataset.group=user"), ("user", "Did you mean user_id?")),
    # typo in any key
    "group": (("modle=mmoe",), ("modle: no such key", "Did you mean model?")),
    "choice": (("model=mmeo",), ("model: there is no mmeo", "Did you mean mmoe?")),
    "nested choice": (("model/backbone=mmeo",), ("model/backbone: there is no mmeo", "Did you mean mmoe?")),
    "experiment": (("experiment=kuairnad",), ("experiment: there is no kuairnad",)),
    "key": (("trainer.epoch=2",), ("trainer.epoch: no such key", "Did you mean epochs?")),
    "nested key": (
        ("model.backbone.num_expert=2",),
        ("model.backbone.num_expert: no such key", "Did you mean num_experts?"),
    ),
    "feature key": (
        ("dataset.features.user_id.embeding_dim=4",),
        ("dataset.features.user_id.embeding_dim: no such key", "Did you mean embedding_dim?"),
    ),
    "added key": (("+trainer.epoch=2", *SMALL), ("trainer.epoch: no such key", "Did you mean epochs?")),
    "added key at the top": (("+sede=2", *SMALL), ("sede: no such key", "Did you mean seed?")),
    "dropped key": (("~dataset.features.vidoe_id",), ("dataset.features.vidoe_id", "Did you mean video_id?")),
    "dropped feature": (("dataset.drop=[vidoe_id]",), ("dataset.drop", "Did you mean video_id?")),
    "user's data set": (("--config-dir", "mine", "dataset=typo"), ("dataset.paht: no such key", "Did you mean path?")),
    "user's feature": (("--config-dir", "mine", "dataset=deep_typo"), ("knid: no such key", "Did you mean kind?")),
    "user's trainer": (
        ("--config-dir", "mine", "trainer=typo", "dataset.rows=3000"),
        ("trainer.epoch: no such key", "epochs?"),
    ),
    "user's experiment": (("--config-dir", "mine", "experiment=typo"), ("sede: no such key", "seed?")),
    "user's metrics": (
        ("--config-dir", "mine", "experiment=metrics_typo"),
        ("metrics.gauc_wieght: no such key", "gauc_weight?"),
    ),
    "user's choice": (("--config-dir", "mine", "experiment=wrong_group"), ("model: there is no mmeo", "mmoe?")),
    "folder of configurations": (("--config-dir", "nowhere"), ("nowhere",)),
    "override without a value": (("model",), ("key=value",)),
    "unquoted SQL": (("dataset.where=tab IN (0,1)",), ("quotes",)),
    "value of a choice": (("trainer.precision=float16", *SMALL), ("trainer.precision", "mixed_bfloat16")),
    "value of a mode": (("trainer.monitor_mode=maximum", *SMALL), ("trainer.monitor_mode", "max, min")),
    "flag": (("model.batch_normalization=fals", *SMALL), ("model.batch_normalization should be true or false", "fals")),
    "flag of a backbone": (
        ("model.backbone.batch_normalization=treu", *SMALL),
        ("model.backbone.batch_normalization should be true or false", "treu"),
    ),
    "weighting": (("weighting=fxed",), ("weighting: there is no fxed", "Did you mean fixed?")),
    "monitor": (("trainer.monitor=auc_marco", *SMALL), ("trainer.monitor", "Did you mean auc_macro?")),
    "gauc weight": (("metrics.gauc_weight=impresions", *SMALL), ("metrics.gauc_weight", "Did you mean impressions?")),
    # labels
    "label not 0/1": (
        (*TABLE, FEATURES, "+dataset.tasks={click: {label: stars}}"),
        ("dataset.tasks.click.label should be 0 or 1", "Received: 2"),
    ),
    "label of text": (
        (*TABLE, FEATURES, "+dataset.tasks={click: {label: notes}}"),
        ("dataset.tasks.click.label should be a number or true/false",),
    ),
    "label among the features": (
        (*TABLE, TASKS, "+dataset.features={user: {}, clicked: {}}"),
        ("dataset.features.clicked should not be a label",),
    ),
    "label inside an expression": (
        (*TABLE, "+dataset.features={user: {}, stars: {}}", '+dataset.tasks={click: {label: "stars >= 3"}}'),
        ("dataset.features.stars should not be a label",),
    ),
    "two tasks with one name": (("--config-dir", "mine", "dataset=twice"), ("twice.yaml", "income", "twice")),
    "YAML that does not parse": (("--config-dir", "mine", "dataset=broken"), ("broken.yaml", "line")),
    "YAML with tabs": (("--config-dir", "mine", "dataset=tabs"), ("tabs.yaml", "line")),
    "no task": ((*TABLE, FEATURES), ("dataset.tasks should name at least one task",)),
    "no feature": ((*TABLE, TASKS), ("dataset.features should name at least one feature",)),
    "funnel in a circle": (
        ("dataset.tasks.is_click.after=is_like", *SMALL),
        ("after should not lead back to itself",),
    ),
    # splits and classes
    "no validation rows": (
        (*SMALL, "dataset.split.valid_from=20300101"),
        ("split should have rows. It has none",),
    ),
    "no training rows": ((*SMALL, "dataset.split.valid_from=20200101"), ("training split should have rows",)),
    "no rows at all": ((*SMALL, "dataset.where='tab > 99'"), ("should have rows",)),
    "one class in training": (
        (*TABLE, FEATURES, "+dataset.tasks={late: {}}", "dataset.split={by: time, column: day, valid_from: 20220508}"),
        ("dataset.tasks.late: every label in the train split is 0",),
    ),
    "one class in validation": (
        (*TABLE, FEATURES, "+dataset.tasks={early: {}}", "dataset.split={by: time, column: day, valid_from: 20220509}"),
        ("dataset.tasks.early: every label in the valid split is 0",),
    ),
    "every id unseen": (
        (*TABLE, TASKS, "+dataset.features={user: {}, fresh: {}}"),
        ("dataset.features.fresh: no value in the 42 rows of the valid split was seen in training",),
    ),
    # unreadable files
    "empty file": ((*TABLE, *COLUMNS, "dataset.path=empty.csv"), ("empty.csv", "empty")),
    "header alone": ((*TABLE, *COLUMNS, "dataset.path=header.csv"), ("header.csv should hold rows",)),
    "cut short": ((*TABLE, *COLUMNS, "dataset.path=cut.csv"), ("cut.csv", "cut short")),
    "cut Parquet": ((*TABLE, *COLUMNS, "dataset.path=cut.parquet"), ("cut.parquet",)),
    "empty Parquet": ((*TABLE, *COLUMNS, "dataset.path=empty.parquet"), ("empty.parquet",)),
    "cut gzip": ((*TABLE, *COLUMNS, "dataset.path=cut.csv.gz"), ("cut.csv.gz",)),
    "noise": ((*TABLE, *COLUMNS, "dataset.path=noise.csv"), ("noise.csv",)),
    # numeric columns
    "numbers of text": (
        (*TABLE, TASKS, "+dataset.features={notes: {kind: numeric}}"),
        ("dataset.features.notes", "number", "'cheap 0'"),
    ),
    "numbers with gaps": (
        (*TABLE, TASKS, "+dataset.features={gap: {kind: numeric}}"),
        ("dataset.features.gap", "null", "dataset.features.gap.fill"),
    ),
    # sizes
    "units": (("model.tower_units=[0]", *SMALL), ("model.tower_units should be", "Received: [0]")),
    "units of a backbone": (
        ("model.backbone.expert_units=[64,-8]", *SMALL),
        ("model.backbone.expert_units should be a list of positive whole numbers", "[64, -8]"),
    ),
    "units not a list": (
        ("model.backbone.expert_units=64", *SMALL),
        ("model.backbone.expert_units should be a list of positive whole numbers", "Received: 64"),
    ),
    "units not numbers": (("model.tower_units=wide", *SMALL), ("model.tower_units should be a list", "wide")),
    "no units": (("model.backbone.expert_units=[]", *SMALL), ("model.backbone.expert_units", "Received: []")),
    "units of nothing": (("model.tower_units=null", *SMALL), ("model.tower_units should be a list",)),
    "experts": (
        ("model.backbone.num_experts=0", *SMALL),
        ("model.backbone.num_experts should be a positive whole number", "Received: 0"),
    ),
    "experts in halves": (("model.backbone.num_experts=1.5", *SMALL), ("num_experts should be a positive whole",)),
    "batch size": (("trainer.batch_size=0", "dataset.rows=3000"), ("trainer.batch_size should be a positive",)),
    "epochs": (("trainer.epochs=-1", *SMALL), ("trainer.epochs should be a positive whole number", "-1")),
    "embedding width": (("dataset.features.tab.embedding_dim=0",), ("embedding_dim should be a positive",)),
    "dropout": (("model.tower_dropout=1", *SMALL), ("model.tower_dropout should be at least 0 and below 1",)),
    "learning rate": (("optimizer.learning_rate=-1", *SMALL), ("optimizer.learning_rate should be a positive",)),
    "learning rate of text": (("optimizer.learning_rate=fast", *SMALL), ("optimizer.learning_rate", "fast")),
    "activation": (("model.activation=rleu", *SMALL), ("model.activation should name a Keras activation", "rleu")),
    "activation from a mapping": (
        ("model.activation={module: os, class_name: function, config: system}", *SMALL),
        ("model.activation should name a Keras activation",),
    ),
    "seed": (("seed=-1", *SMALL), ("seed should be a whole number",)),
    "rows": (("dataset.rows=0",), ("dataset.rows",)),
    "all weights zero": (
        (*SMALL, *(f"dataset.tasks.{task}.weight=0" for task in ("is_click", "long_view", "is_like"))),
        ("weight should be positive for at least one task",),
    ),
    "diverging": (("optimizer.learning_rate=1e30", *SMALL), ("should stay finite", "step", "learning_rate")),
    # folders
    "output folder under a file": ((*SMALL, "hydra.run.dir=a_file/run"), ("a_file",)),
    "output folder where none can be made": ((*SMALL, "hydra.run.dir=/proc/x"), ("/proc/x",)),
    "output folder is a file": ((*SMALL, "hydra.run.dir=a_file"), ("a_file",)),
    # targets
    "target outside": (
        ("dataset._target_=os.system", *SMALL),
        ("dataset._target_ should be in one of the packages funrec, keras", "os.system", "--allow os"),
    ),
    "target that unpickles": (("dataset._target_=pandas.read_pickle",), ("dataset._target_", "pandas.read_pickle")),
    "target behind a prefix": (
        ("optimizer._target_=keras.src.utils.file_utils.os.system", *SMALL),
        ("optimizer._target_ should name a class", "keras.src.utils.file_utils.os.system"),
    ),
    "target that is a function": (
        ("optimizer._target_=keras.src.utils.file_utils.get_file", *SMALL),
        ("optimizer._target_ should be a Optimizer", "get_file"),
    ),
    "target of another kind": (
        ("optimizer._target_=keras.layers.Dense", *SMALL),
        ("optimizer._target_ should be a", "Optimizer", "keras.layers.Dense"),
    ),
    "abstract target": (("dataset._target_=funrec.data.datasets.base.Dataset",), ("dataset._target_ should be a",)),
    "target without a name": (("model.backbone._target_=mmoe", *SMALL), ("model.backbone._target_", "mmoe")),
    "a model larger than memory": (
        ("model.backbone.num_experts=1000000", *SMALL),
        ("should fit in memory", "(1000000, 128, ", "GB"),
    ),
    "target of nothing": (("model.backbone._target_=null", *SMALL), ("model.backbone._target_ should name a class",)),
    "target with a typo": (
        ("model.backbone._target_=funrec.models.backbones.mmoe.MMeO", *SMALL),
        ("model.backbone._target_ should name a class", "MMeO"),
    ),
}
#: Cases that get as far as training, or preparing, and say so first.
TALKATIVE = {"diverging", "monitor"}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_in_one_line_and_harms_nothing(case: str, in_place: Path, funrec: Command) -> None:
    arguments, fragments = CASES[case]
    before, folders = contents(in_place), set((in_place / "outputs").glob("*/*"))
    done = funrec("run", *arguments)
    check_refused(done, *fragments, lines=None if case in TALKATIVE else 1)
    assert contents(in_place) == before  # neither a harmed file nor a new record
    for folder in new_folders(in_place, folders):
        assert "Traceback" in (folder / "funrec.log").read_text()
        assert not (folder / "predictions.parquet").exists()


def test_a_finished_run_is_not_run_over(in_place: Path, funrec: Command) -> None:
    (record,) = (in_place / "outputs").rglob("record.json")
    before = contents(in_place)
    done = funrec("run", *SMALL, "model=logistic", f"hydra.run.dir={record.parent}")
    check_refused(done, "holds a finished run already")
    after = contents(in_place)
    log = str(record.parent / "funrec.log")
    assert before | {log: ""} == after | {log: ""}


def test_an_unknown_command_names_the_nearest(funrec: Command) -> None:
    check_refused(funrec("rnu"), "funrec rnu: no such command. Did you mean run?")


def test_data_without_an_action_says_which_there_are(funrec: Command) -> None:
    check_refused(funrec("data"), "describe or verify")


def test_a_cache_that_cannot_be_written_is_named(
    in_place: Path, funrec: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNREC_CACHE", "a_file/cache")
    check_refused(funrec("run", *SMALL), "a_file/cache", "FUNREC_CACHE")


def test_outputs_that_are_a_file_are_named(workdir: Path, funrec: Command) -> None:
    (workdir / "outputs").write_text("")
    check_refused(funrec("run", *SMALL), "outputs")


def test_the_python_interface_raises_what_the_command_line_says(in_place: Path) -> None:
    import funrec

    before = contents(in_place)
    with pytest.raises(funrec.InputError, match=r"^trainer\.epoch: no such key\. Did you mean epochs\?$"):
        funrec.run_experiment("mmoe", "trainer.epoch=2")
    with pytest.raises(funrec.InputError, match="num_experts should be a positive whole number"):
        funrec.run_experiment("mmoe", *SMALL, "model.backbone.num_experts=0")
    assert contents(in_place) == before


def test_a_bug_of_ours_still_shows_its_traceback(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funrec.experiment.experiment.evaluate_scored", lambda *arguments: 1 / 0)
    with process_unchanged(), pytest.raises(ZeroDivisionError):
        from funrec.cli.main import main

        main(["run", *SMALL, "model=logistic"])
    assert not list(workdir.rglob("record.json"))
