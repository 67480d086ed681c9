"""The live page in a real browser, with a mouse, with the keyboard, and on a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    small = JudgeModel("Four apples, I think.", verdicts=["yes", "no", "no", "no"])
    large = ScriptedModel("There are five apples left.")
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(0.1, 0.4)),
            Candidate("large", large, Price(3, 15)),
        ],
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=4),
    )
    yield from serve(create_app(router))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def picture(page, name: str) -> None:
    folder = os.environ.get("LLM_ROUTER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_one_can_watch_the_cascade_think(url, browser):
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(url)
    page.fill("#question", "How many apples are left?")
    page.click("#send")
    page.wait_for_selector("#answer:not(:empty)")
    assert page.inner_text("#answer") == "There are five apples left."
    steps = page.inner_text("#steps")
    for part in ("Ask small", "Four apples", "Score 0.25", "Ask large", "Answer of large"):
        assert part in steps
    assert page.inner_text("#spent").startswith("$")
    picture(page, "page")


@pytest.fixture(scope="module")
def one_shot_url() -> Iterator[str]:
    names = ("small", "medium", "large")
    estimator = NearestNeighbors(n_neighbors=9).fit(make_outcomes(n=90, candidates=names))
    prices = (Price(0.1, 0.4), Price(1, 4), Price(10, 40))
    router = ChatLLMRouter(
        candidates=[
            Candidate(name, ScriptedModel(f"{name} says"), price)
            for name, price in zip(names, prices, strict=True)
        ],
        estimator=estimator,
        policy=Utility(cost=0.0),
    )
    yield from serve(create_app(router))


@pytest.mark.parametrize("width", [1100, 360])
def test_moving_lambda_moves_the_choice_and_the_point_on_the_curve(one_shot_url, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(one_shot_url)
    page.keyboard.press("Tab")
    page.keyboard.type("prove hard theorem 3")
    page.wait_for_selector(".bar.chosen")
    assert page.inner_text(".bar.chosen span").startswith("large")
    dear = float(page.get_attribute("#curve circle[r='7']", "cx"))
    picture(page, f"dear_{width}")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.inner_text("#lambda-value") == "100,000 / USD"
    assert page.inner_text(".bar.chosen span").startswith("small")
    assert float(page.get_attribute("#curve circle[r='7']", "cx")) < dear
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, f"cheap_{width}")
    # What was chosen on the page is what is then asked.
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answer:not(:empty)")
    assert page.inner_text("#answer") == "small says"


def test_the_keyboard_is_enough(url, browser):
    page = browser.new_page()
    page.goto(url)
    page.keyboard.press("Tab")
    page.keyboard.type("How many apples are left?")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert "/ USD" in page.inner_text("#lambda-value")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answer:not(:empty)")


def test_it_fits_a_phone(url, browser):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(url)
    page.fill("#question", "How many apples are left?")
    page.click("#send")
    page.wait_for_selector("#answer:not(:empty)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture(page, "phone")
