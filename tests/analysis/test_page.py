"""The report page in a browser: a headless Chromium reads it as a person would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.analysis.folders import write_run, write_trace
from tests.conftest import DRAW
from tta_bench.analysis.load import Study, load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

HOSTILE = (
    "<script>window.broken = 1</script>",
    "</script><script>window.broken = 2</script>",
    '<img src=x onerror="window.broken = 3">',
    "<!--<script>",
    "&lt;b&gt;&#x3c;i&#x3e;&amp;",
    "\u202eoverridden\u2066",
    "שלום עולם",
    "\x00\x07\x1b[31m\x85",
    "\ud800",
    "x" * 10_000,
    "{{ 7 * 7 }}",
    "\u2028",
)
QUICK = TestPlan(n_resamples=99, n_bootstrap=200, n_judged=0)


def study_of(output: Path, words: list[str], text: str = "4", **trace: Any) -> Study:
    """Two samplers on one task, of whose four problems three are traced, the first solved by the candidate only."""
    output.mkdir()
    for seed, name in enumerate(("low_confidence", "tta")):
        scores = np.array([[float(seed)], [1.0], [0.0], [1.0]])
        answer = text if seed else text[:-1]
        run_id = write_run(output, {"name": name}, scores, steps=4, text=answer)
        more = {"n_problems": 3, "seed": seed, "steps": 4 + 2 * seed} | trace
        write_trace(output / "runs" / run_id, words, **more)
    return load_study(output)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by what is in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tta_bench.analysis.figures.style.UNDATED", {"svg": {"Date": None}})
        folder = tmp_path_factory.mktemp("pages")
        plain = study_of(folder / "plain", ["4", "a b", "c\n"])
        everything = " ".join(HOSTILE[:8] + HOSTILE[9:])  # records are UTF-8, so they hold no lone surrogate
        asked = " ".join(HOSTILE)
        hostile = study_of(folder / "hostile", list(HOSTILE), everything, prompt=asked, target=asked)
        problem = {"problem": "test-000001", "data": f"{1:016x}", "prompt": asked, "target": asked}
        hostile = replace(hostile, name=everything, examples={"toy": (problem,)}, excluded=(asked,))
        holes = study_of(folder / "holes", ["4", "5"], prompt="s\n▢1▢\n▢2▢\n▢3▢", n_problems=2)
        bare = study_of(folder / "bare", ["4"])
        for run in (folder / "bare" / "runs").iterdir():
            shutil.rmtree(run / "traces")
        studies = {"bare": bare, "plain": plain, "hostile": hostile, "holes": holes}
        found = {}
        for name, study in studies.items():
            with pytest.MonkeyPatch.context() as drawn:
                if name == "bare":  # drawing takes longest, and one page with figures is enough
                    drawn.setattr("tta_bench.analysis.drawings.picture", DRAW)
                found[name] = write_report(study, folder / name / "report", QUICK).page
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, reports: dict[str, Path]) -> Iterator[Any]:
    """Opens a report, at its replay; in the end nothing may have been complained of or asked of a network."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_page(name: str, width: int = 1280, **options: Any) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        pages.append(page)
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith("file:") or complaints.append(asked.url))
        page.goto(reports[name].as_uri())
        if page.locator("#replay-data").count():
            page.locator("#replay").scroll_into_view_if_needed()
            page.wait_for_selector("#player:not([hidden])")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def told(page: Page) -> str:
    return page.locator("#replay-told").inner_text().split(".")[0].strip()


def chosen(page: Page) -> str:
    return page.locator("#replay-problem option:checked").inner_text()


def test_buttons_slider_and_keys_step_through_a_decoding(visit: Any) -> None:
    page = visit("plain")
    assert told(page) == "step 6 of 6"  # the longer side; it opens at the end
    page.click("#replay-first")
    assert told(page) == "step 0 of 6"
    assert page.locator("#replay-side-0 .token.mask").count() == page.locator("#replay-side-0 .token").count() > 0
    page.click("#replay-forward")
    assert page.locator("#replay-side-0 .token.fresh").count() > 0
    page.click("#replay-forward")
    page.click("#replay-back")
    assert told(page) == "step 1 of 6"
    page.focus("#replay")
    for key, step in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 6), ("Home", 0)):
        page.keyboard.press(key)
        assert told(page) == f"step {step} of 6"
    page.locator("#replay-slider").fill("5")
    assert told(page) == "step 5 of 6"
    # The baseline took four steps and stays at its end.
    assert "step 4 of 4 (end)" in page.locator("#replay-side-0").inner_text()
    assert "step 5 of 6" in page.locator("#replay-side-1").inner_text()
    page.focus("#replay")
    page.keyboard.press(" ")
    assert page.locator("#replay-play").inner_text() == "pause"
    page.wait_for_function("document.getElementById('replay-slider').value === '6'")
    assert page.locator("#replay-play").inner_text() == "play"


def test_the_filter_counts_and_keys_go_from_problem_to_problem(visit: Any) -> None:
    page = visit("plain")
    assert page.locator("#replay-filter option").all_inner_texts() == [
        "all problems (3)",
        "scores differ (1)",
        "texts differ (3)",
    ]
    assert page.locator("#replay-problem option").all_inner_texts() == ["test-000000: 0 → 1"]
    page.select_option("#replay-filter", "0")
    assert len(page.locator("#replay-problem option").all_inner_texts()) == 3
    page.focus("#replay")
    for key, problem in (("n", 1), ("n", 2), ("n", 2), ("p", 1), ("p", 0), ("p", 0)):
        page.keyboard.press(key)
        assert chosen(page).startswith(f"test-{problem:06d}")
    page.click("#replay-next")
    assert chosen(page).startswith("test-000001: 1 → 1")
    assert page.locator("#replay-prompt").inner_text() == "2 + 2"


def test_a_token_tells_what_is_known_of_it_by_pointer_and_by_focus(visit: Any) -> None:
    page = visit("plain")
    token = page.locator("#replay-side-1 .token").first
    token.hover()
    detail = page.locator("#replay-detail").inner_text()
    for part in ("candidate, position 10", "committed at step 1", "entropy", "nats", "remasking score", "expected “4”"):
        assert part in detail
    token.focus()
    page.keyboard.press("ArrowDown")
    assert "candidate, position 11" in page.locator("#replay-detail").inner_text()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == page.locator("#replay-detail").inner_text()
    wrong = page.locator("#replay-side-1 .token.wrong").count()
    page.click("#replay-back")
    assert wrong > page.locator("#replay-side-1 .token.wrong").count() == 0
    page.click("#replay-wrong")
    assert page.locator("#replay-side-1 .token.wrong").count() > 0


def test_marks_are_signs_and_colours_follow_the_signal(visit: Any) -> None:
    page = visit("plain")
    signs = set()
    for step in range(7):
        page.locator("#replay-slider").fill(str(step))
        signs |= {sign for marks in page.locator("#replay-side-1 .token .mark").all_inner_texts() for sign in marks}
    assert signs == {"+", "\N{MULTIPLICATION SIGN}", "*", "≠"}
    shades = "[...document.querySelectorAll('#replay-side-1 .token')].map(t => t.style.getPropertyValue('--u'))"
    by_entropy = page.evaluate(shades)
    page.select_option("#replay-signal", label="token probability")
    assert page.evaluate(shades) != by_entropy
    assert page.locator("#replay-low").inner_text() == "1"  # certain
    assert page.locator("#replay-high").inner_text() == "0 probability"


def test_holes_are_filled_where_they_are(visit: Any) -> None:
    page = visit("holes")
    page.click("#replay-first")
    lines = page.locator("#replay-side-0 .canvas").evaluate("box => [...box.children].map(c => c.textContent).join('')")
    assert lines == "s\n\u00a01\u00a0\n\u00a02\u00a0\n\u00a03\u00a0"


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_texts_are_shown_and_do_nothing(visit: Any, width: int) -> None:
    page = visit("hostile", width)
    page.select_option("#replay-filter", "0")
    for step in range(7):
        page.locator("#replay-slider").fill(str(step))
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main b:has(i), #replay script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for place in ("#replay-prompt", "#replay-target", "#examples", "#notes", "h1"):
        shown = page.locator(place).text_content()
        for part in ("<script>window.broken = 1</script>", "&lt;b&gt;&#x3c;", "[U+202E]overridden[U+2066]", "␀␇␛[31m[U+0085]"):
            assert part in shown, (place, part)
    assert "[U+D800]" in page.locator("#notes").text_content()
    assert "more characters)" in page.locator("#replay-prompt").text_content()


@pytest.mark.parametrize(("name", "width"), [("plain", 390), ("plain", 1280), ("bare", 390)])
def test_the_page_never_scrolls_sideways(visit: Any, name: str, width: int) -> None:
    page = visit(name, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_traces_the_page_says_so_and_has_no_script(visit: Any, reports: dict[str, Path]) -> None:
    page = visit("bare")
    assert "token_traces=100" in page.locator("#replay").inner_text()
    assert "<script" not in reports["bare"].read_text()
    assert page.locator("#figures svg").count() > 0


def test_the_answer_comes_first_and_every_section_of_the_contents_is_there(visit: Any) -> None:
    page = visit("plain")
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "Answer"
    assert page.locator("nav a").all_inner_texts() == headings[1:]
    anchors = page.locator("nav a").evaluate_all("links => links.map(a => document.querySelector(a.hash) !== null)")
    assert all(anchors)
    headline = page.locator(".headline").inner_text()
    assert headline.startswith("tta (steps=4) scores 75.0 %, low_confidence 50.0 %: +25.0 points [")


def contrast(page: Page, selector: str) -> float:
    """Of a text with what is behind it, as WCAG 2 has it."""
    return float(
        page.evaluate(
            """selector => {
                const lum = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => (v /= 255) <= .03928 ? v / 12.92
                    : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
                const box = document.querySelector(selector);
                const ink = getComputedStyle(box).color, paper = getComputedStyle(document.body).backgroundColor;
                const [a, b] = [lum(ink), lum(paper)].sort((x, y) => y - x);
                return (a + .05) / (b + .05); }""",
            selector,
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_modes_can_be_read(visit: Any, scheme: str) -> None:
    page = visit("plain", color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    for selector in ("h1", ".note", "nav a", ".side p", "th"):
        assert contrast(page, selector) >= 4.5, selector


def test_print_leaves_out_the_player_and_keeps_the_answer(visit: Any) -> None:
    page = visit("plain")
    page.emulate_media(media="print")
    assert not page.locator("#player").is_visible()
    assert page.locator("#replay .only-print").is_visible()
    assert page.locator(".headline").is_visible()


def test_the_same_data_make_the_same_page(reports: dict[str, Path], tmp_path: Path) -> None:
    again = write_report(load_study(reports["plain"].parents[1]), tmp_path, QUICK).page
    assert again.read_bytes() == reports["plain"].read_bytes()


@pytest.mark.slow
def test_a_large_report_is_small_enough_and_painted_at_once(browser: Browser, tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(500)]
    for seed, name in enumerate(("low_confidence", "tta")):
        scores = np.random.default_rng(seed).integers(0, 2, (200, 1)).astype(float)
        run_id = write_run(tmp_path, {"name": name}, scores, steps=128, text="answer " * 60)
        write_trace(tmp_path / "runs" / run_id, words, n_problems=200, steps=128, length=128, seed=seed)
    file = write_report(load_study(tmp_path), tmp_path / "report", QUICK).page
    assert file.stat().st_size < 10_000_000
    page = browser.new_page()
    page.goto(file.as_uri())
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.locator("#replay").scroll_into_view_if_needed()
    page.wait_for_selector("#player:not([hidden])")
    n_shown = int(page.locator("#replay-filter option").first.inner_text().split("(")[1].rstrip(")"))
    size = file.stat().st_size
    page.close()
    print(f"{size:,} bytes, first contentful paint after {paint:.0f} ms, {n_shown} of 200 problems")
    assert paint < 2000
    assert n_shown > 60
