"""The opening sentences, made from numbers."""

import pandas as pd

from workbench.ui import sentences

INSPECTED = {
    "model": {"id": "a_b", "parameters": 1000},
    "matrices": [{"block": 0}, {"block": 0}, {"block": 1}, {"block": None}],
    "sizes": [{"bits": 16, "total_bytes": 2000}, {"bits": 4, "total_bytes": 700}, {"bits": 2, "total_bytes": 500}],
}
MATRICES = pd.DataFrame(
    {
        "matrix": ["a", "b", "c"],
        "block": [0, 1, None],
        "role": ["up_proj", "down_proj", "head"],
        "mean": [1.0, 4.0, 2.0],
        "top1pct_share": [0.05, 0.02, 0.31],
    }
)


def attributed(tokens: list[str], scores: list[float | None], target: str = " sad") -> dict:
    return {"tokens": tokens, "scores": scores, "target": {"texts": [target]}}


def test_the_model_in_numbers() -> None:
    told = sentences.model_sentence(INSPECTED)
    assert "**a\\_b** has 1,000 parameters in 2 blocks of layers" in told
    assert "it takes 2 kB; with its 4 matrices at 4 bits 700 bytes, at 2 bits 500 bytes" in told


def test_the_weights_name_the_strongest_and_the_most_uneven_matrix() -> None:
    told = sentences.weights_sentence(MATRICES, "wanda")
    assert (
        "the weights of **down\\_proj** of block 1 matter most on average, 4.0 times those of **up\\_proj** of block 0"
        in told
    )
    assert "Inside **head**, the top 1 % of the weights hold 31 % of the salience" in told


def test_the_cost_is_that_of_the_named_point() -> None:
    document = {
        "reference": {"perplexity": 4.0},
        "points": [
            {"label": "x", "stored_bits": 3.5, "perplexity": 5.0},
            {"label": "y", "stored_bits": 8.5, "perplexity": 3.99},
        ],
    }
    told = sentences.cost_sentence(document, "x", 3)
    assert told
    assert "Rounded to 3 bits (x), every weight takes 3.50 bits" in told
    assert "between 5.00 tokens instead of 4.00" in told
    assert "25 % worse" in told
    assert "0.25 % better" in str(sentences.cost_sentence(document, "y", 8))
    assert sentences.cost_sentence(document, "z", 2) is None


def test_the_words_name_the_strongest_and_the_opposing_token() -> None:
    told = sentences.inputs_sentence(attributed(["a", " lost", "."], [0.1, 2.0, -0.5]))
    assert "expects “·sad”" in told
    assert "“·lost”, which pushes towards it; “\\.” pushes against it" in told


def test_the_strongest_token_may_push_against() -> None:
    assert "pushes away from it." in sentences.inputs_sentence(attributed(["a", "b"], [0.1, -2.0]))


def test_tokens_of_a_prompt_are_escaped() -> None:
    told = sentences.inputs_sentence(attributed(["![x](https://evil.example/p.png)", "b"], [2.0, None]))
    assert "![" not in told
    assert "\\!\\[x\\]" in told
