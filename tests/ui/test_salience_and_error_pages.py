"""Weight salience and Layer error: maps of all matrices, one in detail, the states in between."""

import inspect
import json
from collections.abc import Callable

import pandas as pd
import pytest
from fake_client import FakeClient
from streamlit.testing.v1 import AppTest

from workbench import studies
from workbench.quantizers.driving.schemes import complete_scheme, label_of
from workbench.ui import defaults, escape, links, quantization, traits, words
from workbench.ui.agreement import side_by_side, summary
from workbench.ui.layer_error import best_sentence, wide_table
from workbench.ui.numbers import NONE
from workbench.ui.quality import uncrowded
from workbench.ui.salience import share_held, share_needed

Open = Callable[..., AppTest]
UP = "model.layers.1.mlp.up_proj.weight"


def titles(app: AppTest) -> list[str]:
    figures = [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]
    return [figure["yaxis"]["title"].get("text", "") for figure in figures]


def test_salience_shows_map_coverage_histogram_and_channels(open_page: Open) -> None:
    app = open_page("weight_salience", matrix=UP)
    assert not app.exception
    drawn = ["", "share of the salience", "weights", "wanda, sum of the channel", "output"]
    assert titles(app)[:5] == drawn
    assert any("up\\_proj" in one.value and "of block 1" in one.value for one in app.markdown)
    assert any("The top 1 % of its weights hold" in one.value for one in app.markdown)


def test_salience_compares_two_metrics(open_page: Open) -> None:
    app = open_page("weight_salience", second="magnitude", level="channels of the chosen matrix")
    assert not app.exception
    assert any("Rank agreement" in one.value for one in app.markdown)
    assert titles(app)[5] == "magnitude, sum of the channel"


def test_a_metric_of_channels_counts_channels(open_page: Open) -> None:
    app = open_page("weight_salience", metric="activation")
    assert titles(app)[2] == "channels"


def test_share_of_the_curve_between_its_points() -> None:
    points = pd.DataFrame({"weight_share": [0.0, 0.2, 1.0], "salience_share": [0.0, 0.6, 1.0]})
    assert share_held(points, 0.1) == pytest.approx(0.3)
    assert share_held(points, 1.0) == pytest.approx(1.0)
    assert share_needed(points, 0.8) == pytest.approx(0.6)


def test_layer_error_shows_the_worst_cell_at_first(open_page: Open) -> None:
    app = open_page("layer_error")
    assert not app.exception
    drawn = ["", "perplexity", "weights", "weights of the first group", "relative error", "mean square"]
    assert titles(app)[:6] == drawn
    assert app.multiselect(key="quantizers").value == ["rtn", "gptq"]
    rows = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["yaxis"]["ticktext"]
    assert rows == [f"{name} {bits} bit g64" for name in ("rtn", "gptq") for bits in (2, 3, 4)]
    assert app.selectbox(key="label").value.endswith(" 2 bit g64")
    labels = [metric.label for metric in app.metric]
    assert {"Output error", "Signs turned", "Near a boundary", "Stored bits"} <= set(labels)


def test_layer_error_shows_the_cell_of_the_address(open_page: Open, client: FakeClient) -> None:
    app = open_page("layer_error", matrix=UP, label="gptq 8 bit g64", widths="4,8", error="weight error")
    assert app.selectbox(key="matrix").value == UP
    assert any("gptq\\, 8 bits" in one.value and "up\\_proj" in one.value for one in app.markdown)


def test_layer_error_compares_the_set_of_the_address(open_page: Open, client: FakeClient) -> None:
    app = open_page(
        "layer_error", quantizers="codebook,billm,rtn", widths=["2", "8"], group="32", label="rtn 8 bit g32"
    )
    assert not app.exception
    assert app.selectbox(key="label").options == [
        "codebook 2 bit row", "billm fixed width g128", "rtn 2 bit g32", "rtn 8 bit g32",
    ]  # fmt: skip
    told = [one.value for one in app.caption]
    assert "Left out, because the method does not have this width: codebook at 8 bits." in told
    assert (
        "Fixed by the method itself. codebook: whole rows, no symmetric grid; billm: a width of its own, "
        "groups of 128, no symmetric grid." in told
    )
    assert [one.proto.label for one in app.get("tab")][-3:] == ["codebook", "billm", "rtn"]
    app.selectbox(key="label").select("codebook 2 bit row").run()
    assert not app.exception
    boundary = next(metric for metric in app.metric if metric.label == "Near a boundary")
    assert boundary.value != NONE


def test_the_labels_of_the_page_are_those_of_the_study(open_page: Open, client: FakeClient) -> None:
    known = {one["name"]: one for one in client.methods()["quantizers"]}
    for described in known.values():
        for bits in traits.widths(described) or [None]:
            for symmetric in (False, True):
                asked = traits.scheme(described, bits, 32, symmetric)
                assert defaults.short_label(asked) == label_of(complete_scheme(asked))
    changed = traits.scheme(known["gptq"], 3, 64, False, {"act_order": True, "damping": 0.05})
    assert defaults.short_label(changed) == label_of(complete_scheme(changed))
    assert defaults.short_label(changed) == "gptq 3 bit g64, act_order True, damping 0.05"


def test_layer_error_says_what_cannot_be_compared(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("layer_error", quantizers="slim_llm", widths="8")
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "has one of the chosen widths" in sentence
    monkeypatch.setattr(quantization, "SCHEMES_AT_MOST", 3)
    everything = open_page("layer_error", widths="2,3")
    assert not everything.exception
    (sentence,) = [one.value for one in everything.error]
    assert "at most 3 can be compared" in sentence


@pytest.mark.parametrize("kind", ["tradeoff", "signal", "matrix_detail"])
def test_each_part_of_layer_error_fails_alone(kind: str, open_page: Open, client: FakeClient) -> None:
    client.hold(kind, "failed", error="<b>no</b> ![x](https://evil.example)")
    app = open_page("layer_error")
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "![x](" not in sentence
    assert titles(app)[0] == ""


def test_a_card_tells_what_the_method_says_of_itself(open_page: Open, client: FakeClient) -> None:
    app = open_page("layer_error", quantizers="gptq", widths="2")
    known = next(one for one in client.methods()["quantizers"] if one["name"] == "gptq")
    assert [one.value.strip("$\n") for one in app.latex] == [known["traits"]["formula"]]
    (card,) = [one.value for one in app.markdown if "**What is ours:**" in one.value]
    assert escape.markdown(known["reference"]) in card
    (sizes,) = [
        one.value for one in app.dataframe if list(one.value.columns) == ["label", "nominal_bits", "stored_bits"]
    ]
    assert sizes["nominal_bits"].tolist() == [2.0]
    # rows of 96 inputs, a fifth of all weights, have two groups of 64 columns at most; the others are one group
    assert sizes["stored_bits"].tolist() == pytest.approx([0.8 * (2 + 32 / 64) + 0.2 * (2 + 64 / 96)])


def test_what_quantizers_had_to_change_is_told(open_page: Open, client: FakeClient) -> None:
    given = client.result("layer_error", defaults.layer_error("tiny", None)[1])
    assert given is None or isinstance(given.document["notes"], list)
    app = AppTest.from_function(noted).run()
    assert not app.exception
    (sentence,) = [one.value for one in app.info]
    assert sentence.startswith("For 2 cells the quantizer had to give way. ")
    assert "![x](" not in sentence


def noted() -> None:
    from workbench.ui import address, layer_error

    address.begin("alone")
    layer_error.draw_notes([{"label": "a", "matrix": "m", "text": "![x](https://evil.example)"}] * 2)


def test_the_best_choice_is_named_width_by_width() -> None:
    frame = pd.DataFrame(
        {
            "label": ["a 2", "a 2", "b 2", "b 2", "*c*", "*c*"],
            "bits": [2, 2, 2, 2, None, None],
            "output_error": [0.1, 0.3, 0.1, 0.2, 0.5, 0.5],
            "sqnr_db": [1.0, 3.0, 1.0, 2.0, 0.0, 0.0],
        }
    )
    assert best_sentence(frame, "output_error").endswith("**b 2** (0.150), **\\*c\\*** (0.500).")
    assert "**a 2** (2.00)" in best_sentence(frame, "sqnr_db")


def test_marks_of_points_that_crowd_are_left_out() -> None:
    assert uncrowded([2.5, 2.5, 4.5], [1.01, 1.0, 5.0]) == [False, True, True]
    assert uncrowded([2.5, 2.6, 4.5], [9.0, 1.0, 5.0]) == [True, True, True]
    assert uncrowded([2.5], [float("inf")]) == [False]


def test_the_wide_table_keeps_the_order_of_the_model() -> None:
    frame = pd.DataFrame(
        {"matrix": ["z", "a", "z", "a"], "label": ["y", "y", "x", "x"], "output_error": [1.0, 3.0, 2.0, None]}
    )
    table = wide_table(frame, "output_error")
    assert list(table["matrix"]) == ["z", "a"]
    assert list(table.columns) == ["matrix", "y", "x"]
    assert table["x"].isna().tolist() == [False, True]


KINDS = {
    "weight_salience": "salience",
    "layer_error": "layer_error",
    "trade_off": "tradeoff",
    "bit_allocation": "sensitivity",
}


@pytest.mark.parametrize(("stem", "kind"), KINDS.items())
def test_an_empty_page_offers_to_compute_and_a_failed_one_says_why(
    stem: str, kind: str, open_page: Open, client: FakeClient
) -> None:
    client.hold(kind)
    app = open_page(stem)
    assert not app.exception
    assert any(button.label.startswith("Compute ") for button in app.button)
    assert any("Where this comes from" in one.value for one in app.caption)
    client.hold(kind, "failed", error="the text ![x](https://evil.example) is too short")
    app.run()
    assert not app.exception
    (sentence,) = [one.value for one in app.error]
    assert "too short" in sentence
    assert "![x](" not in sentence


def test_layer_error_names_the_kernels_and_offers_to_measure_them(open_page: Open, client: FakeClient) -> None:
    client.hold("kernel_speed")
    app = open_page("layer_error")
    assert any("**torch** kernels (the weight is on the CPU)" in one.value for one in app.markdown)
    app.button(key="run-speed").click().run()
    assert [spec["bits"] for kind, spec in client.submitted if kind == "kernel_speed"] == [[2, 3, 4]]


def test_layer_error_shows_how_fast_the_kernels_are(open_page: Open) -> None:
    app = open_page("layer_error", widths=["3", "4"])
    assert not app.exception
    assert any("are quantized to" in one.value and "a second (read and" in one.value for one in app.markdown)
    bars = json.loads(app.get("plotly_chart")[-1].proto.spec)["data"]
    assert [len(bar["y"]) for bar in bars] == [2, 2, 2, 1]


def test_scores_are_summed_to_what_is_asked(open_page: Open) -> None:
    app = open_page("weight_salience", scope="group of inputs", matrix=UP)
    assert not app.exception
    assert titles(app)[:3] == ["", "share of the salience", "groups"]
    app = open_page("weight_salience", scope="matrix", matrix=UP)
    assert not app.exception
    assert any("of the salience of all matrices" in one.value for one in app.markdown)
    assert titles(app)[2] == "matrices"


def test_the_inside_of_a_matrix_is_drawn(open_page: Open) -> None:
    app = open_page("weight_salience", matrix=UP)
    inside = next(json.loads(one.proto.spec) for one in app.get("plotly_chart") if "output" in one.proto.spec)
    assert len(inside["data"][0]["y"]) == 96
    assert len(inside["data"][0]["x"]) == 64


def test_a_share_can_be_chosen(open_page: Open) -> None:
    app = open_page("weight_salience", matrix=UP, top="100")
    assert app.slider(key="top").value == 10  # out of its bounds
    app.slider(key="top").set_value(25.0).run()
    assert any("The top **25 %** hold **" in one.value for one in app.markdown)


def test_a_metric_that_compares_shows_the_quantizer(open_page: Open, client: FakeClient) -> None:
    app = open_page("weight_salience")
    assert "quantizer" not in [one.key for one in app.selectbox]
    client.hold("salience")
    app = open_page("weight_salience", metric="pqi", second="snip")
    assert not app.exception
    app.button(key="run-weights").click().run()
    spec = next(spec for kind, spec in client.submitted if spec["metric"] == "pqi")
    assert spec["scheme"]["bits"] == 3
    assert spec["text2"] is None
    client.release("salience")
    app = open_page("weight_salience", metric="pqi", second="snip")
    assert not app.exception
    assert any("pqi and snip" in one.value for one in app.markdown)


def test_a_metric_of_a_second_text_asks_for_it(open_page: Open) -> None:
    app = open_page("weight_salience", metric="salun")
    assert not app.exception
    assert app.selectbox(key="text2").value == "sampled.txt"
    assert titles(app)[1] == "share of the salience"


@pytest.mark.parametrize("metric", ["kl", "utilized_rank", "modhifi", "force"])
def test_every_kind_of_metric_can_be_looked_at(metric: str, open_page: Open) -> None:
    app = open_page("weight_salience", metric=metric)
    assert not app.exception
    assert titles(app)[1] == "share of the salience"
    if metric == "force":
        assert any("have a sign" in one.value for one in app.caption)


def test_agreement_shows_the_map_and_the_chosen_pair(open_page: Open, client: FakeClient) -> None:
    app = open_page("weight_salience", pair="wanda", pair2="obd", matrix=UP)
    assert not app.exception
    assert any("pairs of metrics" in one.value for one in app.markdown)
    sentence = next(one.value for one in app.markdown if "Weight by weight" in one.value)
    assert "wanda and obd" in sentence
    assert "up\\_proj" in sentence
    within = open_page("weight_salience", within=UP, agree="overlap of the top 1 %")
    assert not within.exception
    app = open_page("weight_salience", pair="wanda", pair2="wanda")
    assert not app.exception
    client.hold("agreement")
    app = open_page("weight_salience", metric="pqi", bits="2")
    assert any(button.label == "Compute how far all metrics agree" for button in app.button)


def test_metrics_that_agree_stand_side_by_side() -> None:
    names = ["a", "b", "c", "d"]
    near = {("a", "c"), ("b", "d")}
    rows = [
        {"metric": x, "other": y, "overlap": 0.5,
         "spearman": 1.0 if x == y else 0.9 if (x, y) in near or (y, x) in near else 0.1}
        for x in names for y in names
    ]  # fmt: skip
    order = side_by_side(pd.DataFrame(rows), names)
    assert abs(order.index("a") - order.index("c")) == 1
    assert abs(order.index("b") - order.index("d")) == 1
    told = summary(pd.DataFrame(rows), names)
    assert told.startswith("Of 6 pairs of metrics, 0 have a rank correlation above 0.95 and 4 below 0.5.")


def test_a_prompt_is_held_against_the_text(open_page: Open, client: FakeClient) -> None:
    app = open_page("weight_salience", prompt="The bird sang in the old tree.", matrix=UP)
    assert not app.exception
    labels = [metric.label for metric in app.metric]
    assert labels == ["Shared salient channels", "Shared salient weights", "Rank correlation of channels"]
    assert titles(app)[-1] == "share of the salience on the prompt"
    client.hold("prompt_coverage", "failed", error="the prompt has 1 token; a loss needs a next token, so at least 2")
    app = open_page("weight_salience", prompt="x")
    assert any("so at least 2" in one.value for one in app.error)


def test_scores_and_masks_are_handed_over(open_page: Open, client: FakeClient) -> None:
    app = open_page("weight_salience", mask="5.0", of="each row")
    assert not app.exception
    assert any("the top 5.0 % of each row" in one.value for one in app.caption)
    labels = [one.proto.label for one in app.get("download_button")]
    assert any(label.startswith("Scores (safetensors)") for label in labels)
    assert any(label.startswith("Mask (safetensors)") for label in labels)
    client.hold("salience_export")
    app = open_page("weight_salience", mask="2.5")
    app.button(key="run-export").click().run()
    kind, spec = client.submitted[-1]
    assert (kind, spec["top"], spec["mask_scope"], spec["metric"]) == ("salience_export", 0.025, "matrix", "wanda")


@pytest.mark.parametrize(
    "question",
    [defaults.agreement(), defaults.prompt_coverage(), defaults.salience_export(defaults.salience(metric="pqi"))],
)
def test_the_questions_of_the_page_are_whole(question: defaults.Question) -> None:
    kind, spec = question
    parameters = set(inspect.signature(studies.STUDIES[kind]).parameters) - set(studies.NOT_IN_SPECS)
    assert spec.keys() - {"model", "allow_download"} == parameters
    assert dict(links.chosen(spec))["model"] == "demo"
    assert kind in links.PAGES
    assert words.kind_label(kind) != kind
