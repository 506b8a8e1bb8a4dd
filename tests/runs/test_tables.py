"""Records to rows, and rows to a printed table."""

import csv
import io

import numpy as np
import pytest

from funrec.runs.tables import FORMATS, label, render, rows_from_record, rows_from_records
from funrec.utils.errors import InputError

RECORD = {
    "label": "mmoe",
    "metrics": {
        "auc_is_click": 0.70456789,
        "auc_is_like": 0.5,
        "auc_macro": 0.602283945,
        "gauc_is_click": 0.6133,
        "val_user_is_click": 65340,
        "log_loss_is_click": 0.61,
        "auc_is_like_given_is_click": 0.55,
    },
    "oracle": {"auc_is_click": 0.9, "auc_is_like": 0.8, "auc_macro": 0.85},
}
WIDE = ["auc_is_click", "auc_is_like", "auc_macro", "gauc_is_click", "val_user_is_click"]


def cells(text):
    """The cells of a grid or GitHub table, row by row."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_default_table_has_model_first_and_then_the_known_columns_by_name():
    header, mmoe, oracle = cells(render(rows_from_record(RECORD)))
    assert header == ["model", *WIDE]
    assert mmoe == ["mmoe", "0.7046", "0.5000", "0.6023", "0.6133", "65340"]
    assert oracle == ["oracle", "0.9000", "0.8000", "0.8500", "", ""]


def test_the_grid_is_the_one_that_tabulate_draws():
    text = render([{"model": "mmoe", "auc_is_click": 0.7}])
    assert text == "\n".join(
        [
            "+---------+----------------+",
            "| model   |   auc_is_click |",
            "+=========+================+",
            "| mmoe    |         0.7000 |",
            "+---------+----------------+",
        ]
    )


def test_what_was_swept_stands_between_model_and_metrics_and_keeps_its_digits():
    record = RECORD | {"swept": {"optimizer.learning_rate": 1e-05, "seed": 3, "trainer.shuffle": True}}
    header, mmoe, oracle = cells(render(rows_from_record(record)))
    assert header[:5] == ["model", "optimizer.learning_rate", "seed", "trainer.shuffle", "auc_is_click"]
    assert mmoe[:4] == ["mmoe", "1e-05", "3", "true"]
    assert oracle[:4] == ["oracle", "", "", ""]


def test_model_comes_first_whatever_the_order_of_keys():
    header = cells(render([{"auc_is_click": 0.5, "seed": 1, "epochs": 2, "model": "mmoe"}]))[0]
    assert header == ["model", "seed", "epochs", "auc_is_click"]


def test_runs_of_one_oracle_share_its_row():
    other = RECORD | {"label": "ple"}
    assert [row["model"] for row in rows_from_records([RECORD, other])] == ["mmoe", "ple", "oracle"]


def test_runs_of_different_data_keep_their_own_oracles():
    other = RECORD | {"label": "ple", "oracle": {"auc_is_click": 0.7}}
    assert [row["model"] for row in rows_from_records([RECORD, other])] == ["mmoe", "oracle", "ple", "oracle"]


def test_a_run_without_known_probabilities_has_no_oracle_row():
    assert [row["model"] for row in rows_from_record(RECORD | {"oracle": None})] == ["mmoe"]


def test_a_metric_outside_the_default_table_is_shown_on_request():
    text = render(rows_from_record(RECORD), columns=["log_loss_is_click", "model"])
    assert cells(text) == [["log_loss_is_click", "model"], ["0.6100", "mmoe"], ["", "oracle"]]


def test_an_unknown_column_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"no column auc_is_clik\. Did you mean auc_is_click\?"):
        render(rows_from_record(RECORD), columns=["auc_is_clik"])


def test_an_unknown_format_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"Received: gird\. Did you mean grid\?"):
        render([], format="gird")


def test_a_grid_that_fits_stays_wide_and_one_that_does_not_has_one_row_per_task():
    rows = rows_from_record(RECORD | {"oracle": None})
    wide = render(rows)
    breadth = max(map(len, wide.splitlines()))
    assert render(rows, width=breadth) == wide
    assert cells(render(rows, width=breadth - 1)) == [
        ["task", "auc", "gauc", "val_user"],
        ["is_click", "0.7046", "0.6133", "65340"],
        ["is_like", "0.5000", "", ""],
        ["macro", "0.6023", "", ""],
    ]


def test_one_row_per_task_names_the_model_when_there_are_several():
    table = cells(render(rows_from_record(RECORD), width=40))
    assert table[0] == ["model", "task", "auc", "gauc", "val_user"]
    assert [row[:3] for row in table[1:]] == [
        ["mmoe", "is_click", "0.7046"],
        ["mmoe", "is_like", "0.5000"],
        ["mmoe", "macro", "0.6023"],
        ["oracle", "is_click", "0.9000"],
        ["oracle", "is_like", "0.8000"],
        ["oracle", "macro", "0.8500"],
    ]


def test_a_narrow_and_a_wide_table_hold_the_same_numbers():
    rows = rows_from_record(RECORD)
    numbers = [
        sorted(cell for row in cells(render(rows, width=width)) for cell in row if cell[:1].isdigit())
        for width in (None, 40)
    ]
    assert numbers[0] == numbers[1]


def test_another_split_has_rows_of_its_own_in_a_narrow_table():
    row = {"auc_macro@random": 0.6, "auc_macro": 0.7, "auc_view@random": 0.6, "auc_view": 0.7}
    table = cells(render([row], width=10))
    assert [row[0] for row in table] == ["task", "view", "macro", "view@random", "macro@random"]


def test_a_task_whose_name_ends_like_another_keeps_its_own_column():
    row = {"auc_like": 0.6, "auc_is_like": 0.7, "pr_auc_is_like": 0.2}
    table = cells(render([row], columns=list(row), width=10))
    assert table == [["task", "auc", "pr_auc"], ["is_like", "0.7000", "0.2000"], ["like", "0.6000", ""]]


def test_width_changes_the_grid_alone():
    rows = rows_from_record(RECORD)
    for format in ("github", "latex", "csv"):
        assert render(rows, format, width=10) == render(rows, format)


def test_github_tables_escape_the_bar():
    assert "a\\|b" in render([{"model": "a|b", "auc_x": 0.5}], "github")


def test_latex_escapes_text():
    text = render([{"model": "50% _of_ $x & {y}", "auc_is_click": 0.5}], "latex")
    assert r"50\% \_of\_ \$x \& \{y\}" in text
    assert r"auc\_is\_click" in text


def test_csv_quotes_text_and_keeps_every_digit():
    rows = [{"model": 'a,"b"\nc', "auc_is_click": 0.1 + 0.2, "val_user_is_click": 7}, {"model": "d"}]
    table = list(csv.reader(io.StringIO(render(rows, "csv"))))
    assert table == [
        ["model", "auc_is_click", "val_user_is_click"],
        ['a,"b"\nc', "0.30000000000000004", "7"],
        ["d", "", ""],
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_not_finite_is_blank(format):
    text = render([{"model": "mmoe", "auc_is_click": float("nan"), "auc_macro": None, "rmse_x": float("inf")}], format)
    assert "nan" not in text.lower() and "inf" not in text.lower() and "none" not in text.lower()


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows_make_no_error(format):
    render([], format)


def test_a_name_cannot_drive_the_terminal_or_break_the_grid():
    text = render([{"model": "\x1b[31mred\nsecond", "auc_is_click": 0.5}])
    assert "\x1b" not in text
    assert len(text.splitlines()) == 5


def test_numpy_scalars_print_as_plain_numbers():
    row = {"model": "mmoe", "auc_is_click": np.float32(0.5), "val_user_is_click": np.int64(3)}
    assert cells(render([row]))[1] == ["mmoe", "0.5000", "3"]


def test_a_difference_that_rounds_to_zero_has_no_sign():
    assert cells(render([{"auc_is_click": -1e-9, "auc_macro": -0.25}]))[1] == ["0.0000", "-0.2500"]


@pytest.mark.parametrize(
    ("backbone", "funnel", "expected"),
    [
        ("mmoe", "independent", "mmoe"),
        ("embedding_only", "esmm", "esmm"),
        ("ple", "esmm", "ple+esmm"),
        ("embedding_only", "independent", "embedding_only"),
    ],
)
def test_a_label_names_what_ran(backbone, funnel, expected):
    assert label(backbone, funnel) == expected


def test_a_label_names_the_interaction_and_the_wide_part():
    assert label("mmoe", "independent", wide="linear") == "mmoe + linear"
    assert label("mmoe", "independent", "dcn_v2") == "dcn_v2-mmoe"
    assert label("embedding_only", "esmm", "dcn_v2", "linear") == "dcn_v2-embedding_only+esmm + linear"
