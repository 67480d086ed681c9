"""The live page in a real browser, with a mouse, with the keyboard, and on a phone."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import Always, ConfidenceThreshold, Utility
from tests.support.fakes import JudgeModel, ScriptedModel, make_outcomes
from tests.support.uvicorn_server import create_app, serve

CHROMIUM = shutil.which("chromium")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

VERDICT = "41 % cheaper than `large`: your target `quality >= best - 1 point` is kept."
EXAMPLES = ("How many apples are left?", "What is 5 + 7?")

ATTACKS = """# <img src=x onerror="window.hit=1"> heading

<script>window.hit=2</script><svg onload="window.hit=3"></svg>
**<b onmouseover="window.hit=4">bold</b>** `<iframe src="javascript:window.hit=5">`
[click](javascript:window.hit=6) [data](data:text/html,<script>window.hit=7</script>)
[quoted](https://example.org/"onmouseover="window.hit=8) ![seen](https://example.org/a.png)
</div></article><style>body{display:none}</style>

| <script>window.hit=9</script> | b |
|---|---|
| &lt;script&gt; | [x](vbscript:x) |

```html
</code></pre><script>window.hit=10</script>
```
"""

FORMS = """#### 490 apples

Each holds **35**, in *14* crates, with `a_b_c` and snake_case_names, see
[the source](https://example.org/a).

1. tens
   - inner
2. ones

> said

| crate | apples |
|---|---|
| all | 490 |

```python
total = sum(crate.apples for crate in warehouse.crates if crate.is_open and crate.is_full) # wide
```
"""

LONG = "word" * 200


def pool(*scripts: str, verdicts: list[str]) -> list[Candidate]:
    small = JudgeModel(scripts[0], verdicts=verdicts)
    return [
        Candidate("small", small, Price(0.1, 0.4)),
        Candidate("large", ScriptedModel(*scripts[1:]), Price(3, 15)),
    ]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A cascade whose draft is refused, so that the second candidate answers."""
    router = ChatLLMRouter(
        candidates=pool(
            "Four apples, I think.",
            "There are **five** apples left.",
            verdicts=["yes", "no", "no", "no"],
        ),
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfEvaluator(n_samples=4),
    )
    yield from serve(create_app(router, examples=EXAMPLES, verdict=VERDICT))


@pytest.fixture(scope="module")
def url_of_texts() -> Iterator[str]:
    """A candidate that answers with attacks, every form of Markdown, and one long word, in turn."""
    candidates = [
        Candidate(name, ScriptedModel(text), Price(0.1, 0.4))
        for name, text in (("attacks", ATTACKS), ("forms", FORMS), ("long" * 20, LONG))
    ]
    yield from serve(create_app(ChatLLMRouter(candidates=candidates, policy=Always("attacks"))))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens the page in a window of some size; it may make no sound on the console."""
    pages, complaints = [], []

    def open(url: str, width: int = 1280, height: int = 800, **more):
        page = browser.new_page(viewport={"width": width, "height": height}, **more)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda r: r.ok or complaints.append(f"{r.status} {r.url}"))
        page.on("request", lambda r: r.url.startswith((url, "data:")) or complaints.append(r.url))
        page.goto(url)
        page.wait_for_selector("#examples button")
        pages.append(page)
        return page

    yield open
    for page in pages:
        page.close()
    assert complaints == []


def ask(page, question: str = "How many apples are left?", turn: int = 1) -> None:
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.locator(".turn .by b").nth(turn - 1).wait_for()


def picture(page, name: str) -> None:
    folder = os.environ.get("LLM_ROUTER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_the_page_is_one_file_that_may_load_nothing_else(url):
    answer = httpx.get(url)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", answer.text) == []
    assert "innerHTML" not in answer.text


def test_what_the_page_is_told_needs_the_key_that_its_calls_need(url):
    told = httpx.get(f"{url}/live/setup").json()
    assert told["examples"] == list(EXAMPLES)
    assert told["verdict"] == VERDICT
    assert told["baseline"] == "large"
    assert told["candidates"][0] == {"name": "small", "price": {"input": 0.1, "output": 0.4}}
    router = ChatLLMRouter(candidates=pool("a", "b", verdicts=["yes"]), policy=Always("small"))
    for closed in serve(create_app(router, api_keys=["key"])):
        assert httpx.get(closed).status_code == 200
        assert httpx.get(f"{closed}/live/setup").status_code == 401
        with_key = {"authorization": "Bearer key"}
        assert len(httpx.get(f"{closed}/live/setup", headers=with_key).json()["examples"]) == 4


@in_a_browser
def test_one_can_watch_the_cascade_think(url, open_page):
    page = open_page(url)
    assert page.inner_text("#verdict") == VERDICT.replace("`", "")
    picture(page, "page_empty")
    ask(page)
    assert page.inner_text(".answer") == "There are five apples left."
    steps = page.inner_text(".steps")
    for part in ("Ask small", "Four apples", "Score 0.25", "Ask large", "Keep the answer of large"):
        assert part in steps
    picture(page, "page")


@in_a_browser
def test_an_answer_and_a_reason_stand_on_the_page_once(url, open_page):
    page = open_page(url)
    ask(page)
    text = page.inner_text(".turn")
    assert text.count("five apples left") == 1
    reasons = page.locator(".steps .muted").all_inner_texts()
    assert len(set(reasons)) == len(reasons)


@in_a_browser
def test_an_example_is_asked_by_a_click_and_the_session_is_added_up(url, open_page):
    page = open_page(url)
    page.get_by_text(EXAMPLES[1]).click()
    page.locator(".turn .by b").wait_for()
    assert page.inner_text(".turn h3") == EXAMPLES[1]
    assert not page.is_visible("#examples")
    ask(page, turn=2)
    assert page.locator(".turn h3").all_inner_texts() == [EXAMPLES[0], EXAMPLES[1]]
    assert page.inner_text("#count") == "2"
    assert page.inner_text("#would-label") == "With large alone"
    # Two candidates and four verdicts cost more than the last candidate alone, and it says so.
    spent, would = (float(page.inner_text(f"#{id}")[1:]) for id in ("spent", "would"))
    assert spent > would > 0
    assert page.inner_text("#saved-label") == "Extra cost"
    assert "more than large alone" in page.inner_text(".by >> nth=0")


@in_a_browser
def test_money_that_is_unknown_is_called_unknown(open_page):
    priced, free = Candidate("small", ScriptedModel("a"), Price(1, 1)), ScriptedModel("b")
    router = ChatLLMRouter(candidates=[priced, Candidate("free", free)], policy=Always("free"))
    for url in serve(create_app(router)):
        page = open_page(url)
        ask(page)
        assert [page.inner_text(f"#{id}") for id in ("spent", "would", "saved")] == ["unknown"] * 3
        assert "1 of 1 answers is unknown" in page.inner_text("#money-help")
        assert "cost unknown" in page.inner_text(".by")


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
        policy=Utility(cost=0.1),
    )
    yield from serve(create_app(router))


@in_a_browser
@pytest.mark.parametrize("width", [1280, 360])
def test_moving_the_dial_moves_the_choice_and_the_point_on_the_curve(
    one_shot_url, open_page, width
):
    page = open_page(one_shot_url, width)
    assert page.inner_text(".ends").split("\n") == ["best answer", "lowest cost"]
    assert "own setting" in page.inner_text("#lambda-value")
    page.fill("#question", "prove hard theorem 3")
    page.wait_for_selector("#arms .chosen")
    assert page.inner_text("#arms .chosen b").startswith("large")
    dear = float(page.get_attribute("#curve circle.on", "cx"))
    picture(page, f"dear_{width}")
    page.focus("#lambda")
    page.keyboard.press("End")
    assert "$0.0001 per 1,000 answers (λ = 100,000 per USD)" in page.inner_text("#lambda-value")
    assert page.inner_text("#arms .chosen b").startswith("small")
    assert float(page.get_attribute("#curve circle.on", "cx")) < dear
    picture(page, f"cheap_{width}")
    # What was chosen on the page is what is then asked.
    page.focus("#question")
    page.keyboard.press("Enter")
    page.wait_for_selector(".by b")
    assert page.inner_text(".answer") == "small says"
    page.click("#own")
    assert "own setting" in page.inner_text("#lambda-value")
    assert page.inner_text("#arms .chosen b").startswith("large")


@in_a_browser
def test_enter_sends_and_shift_enter_makes_a_new_line(url, open_page):
    page = open_page(url)
    page.focus("#question")
    page.keyboard.press("Enter")
    assert page.locator(".turn").count() == 0
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.wait_for_selector(".by b")
    assert page.inner_text(".turn h3") == "one\ntwo"


@in_a_browser
def test_the_keyboard_reaches_everything_in_the_order_of_the_page(url, open_page):
    page = open_page(url)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.innerText")
        )
    assert reached == ["theme", "question", "send", "lambda", "Try one of these", *EXAMPLES]
    page.keyboard.press("Enter")
    page.wait_for_selector(".by b")
    page.focus(".turn summary")
    page.keyboard.press("Enter")
    assert not page.is_visible(".steps")


@in_a_browser
def test_a_screen_reader_has_a_name_for_every_control_and_hears_the_answer(url, open_page):
    page = open_page(url)
    controls = page.locator("button, textarea, input, summary").all()
    for control in controls:
        named = "e => e.innerText || (e.labels && e.labels.length && e.labels[0].innerText)"
        assert control.evaluate(named)
    assert "your target" not in page.get_attribute("#lambda", "aria-valuetext")
    ask(page)
    assert page.get_attribute(".answer", "aria-live") == "polite"
    assert page.inner_text("[role=status]") == "Answer of large."


OVER = """() => [...document.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.right > innerWidth && !e.closest("pre, .wide, .hidden, .ticks");
}).map(e => e.outerHTML.slice(0, 120))"""


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_border_of_a_phone(url_of_texts, open_page, scheme):
    page = open_page(url_of_texts, 360, 740, color_scheme=scheme)
    page.route("**/live/ask", force_in_turn("forms", "long" * 20))
    ask(page, LONG)
    picture(page, f"phone_forms_{scheme}")
    ask(page, "And now?", turn=2)
    page.fill("#question", "And then?")
    page.wait_for_selector("#arms .row >> nth=2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(OVER) == []
    picture(page, f"phone_{scheme}")


def force_in_turn(*names: str):
    """Lets each further question be answered by the next of the names, whatever the policy says."""
    waiting = iter(names)

    def handle(route) -> None:
        base = route.request.url.removesuffix("/live/ask")
        question = route.request.post_data_json["question"]
        body = {"model": next(waiting), "messages": [{"role": "user", "content": question}]}
        reply = httpx.post(f"{base}/v1/chat/completions", json=body, timeout=60).json()
        text, record = reply["choices"][0]["message"]["content"], reply["llm_router"]
        answer = {"text": text, "record": record,
                  "baseline": {"candidate": "large", "cost_usd": 3.8e-05}}  # fmt: skip
        route.fulfill(
            body=f"event: answer\ndata: {json.dumps(answer)}\n\n", content_type="text/event-stream"
        )

    return handle


@in_a_browser
def test_what_a_model_writes_is_shown_and_never_run(url_of_texts, open_page):
    page = open_page(url_of_texts)
    ask(page, ATTACKS)
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    answer = page.locator(".answer")
    for tag in ("script", "img", "svg", "iframe", "style", "b"):
        assert answer.locator(tag).count() == 0
    assert "<script>window.hit=2</script>" in answer.inner_text()
    assert "</code></pre><script>window.hit=10</script>" in answer.locator("pre").inner_text()
    addresses = answer.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert addresses
    assert all(address.startswith("https://example.org/") for address in addresses)
    attributes = "all => all.flatMap(e => [...e.attributes].map(a => a.name))"
    assert set(answer.locator("*").evaluate_all(attributes)) <= {
        "href", "rel", "target", "class", "tabindex", "start",
    }  # fmt: skip


@in_a_browser
def test_markdown_becomes_what_it_means(url_of_texts, open_page):
    page = open_page(url_of_texts)
    page.route("**/live/ask", force_in_turn("forms"))
    ask(page)
    answer = page.locator(".answer")
    shown = {
        "h6": "490 apples", "ol > li >> nth=1": "ones", "strong": "35", "em": "14",
        "a": "the source", "ul li": "inner", "blockquote": "said",
        "th >> nth=1": "apples", "td >> nth=1": "490",
    }  # fmt: skip
    for selector, text in shown.items():
        assert answer.locator(selector).inner_text() == text, selector
    assert answer.locator("p code").inner_text() == "a_b_c"
    assert "snake_case_names" in answer.inner_text()
    assert answer.locator("pre").inner_text().startswith("total = sum(")
    assert answer.locator("a").get_attribute("rel") == "noopener noreferrer nofollow"


CONTRAST = """() => {
    const rgb = text => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = e => { for (; e; e = e.parentElement) {
        const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c;
    } };
    const poor = [];
    for (const e of document.querySelectorAll("body *")) {
        const said = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!said || !e.checkVisibility() || e.closest("svg, script, style")) continue;
        const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) poor.push(`${e.tagName} ${e.textContent.slice(0, 40)} ${ratio}`);
    }
    return poor;
}"""


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes_and_the_switch_turns_them(url, open_page, scheme):
    page = open_page(url, color_scheme=scheme)
    ask(page)
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    assert page.evaluate(CONTRAST) == []
    page.click("#theme")
    page.mouse.move(0, 0)
    assert page.evaluate(paper) != before
    assert page.evaluate(CONTRAST) == []
    other = {"light": "dark", "dark": "light"}[scheme]
    assert page.inner_text("#theme").lower() == f"{scheme} theme"
    page.reload()
    page.wait_for_selector("#examples button")
    assert page.get_attribute("html", "data-theme") == other


@in_a_browser
def test_a_failure_is_told_and_the_next_question_is_answered(open_page):
    flaky = ScriptedModel(ValueError("it broke"), "well again")
    router = ChatLLMRouter(candidates=[Candidate("only", flaky)], policy=Always("only"))
    for url in serve(create_app(router)):
        page = open_page(url)
        page.fill("#question", "hello?")
        page.keyboard.press("Enter")
        page.locator(".steps .failed >> nth=-1").wait_for()
        assert "it broke" in page.inner_text(".steps")
        assert page.inner_text("#count") == "0"
        ask(page)
        assert page.inner_text(".answer >> nth=0") == "well again"
