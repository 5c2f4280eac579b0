"""The page in other languages: every sentence is there, and it stays in the language that was chosen."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

TEXT = Path(__file__).parents[2] / "web" / "src" / "text"
OTHERS = ("zh", "ja")
SENTENCE = re.compile(r"(\w+): '((?:[^'\\]|\\.)*)'")


def sentences(language):
    """Keys and sentences of a language, in the order of its file."""
    return SENTENCE.findall((TEXT / f"{language}.ts").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_there_with_its_gaps(language):
    english, other = sentences("en"), sentences(language)
    assert len(english) > 400
    assert [key for key, _ in other] == [key for key, _ in english]
    for (key, here), (_, there) in zip(english, other, strict=True):
        assert sorted(re.findall(r"{(\w+)", there)) == sorted(re.findall(r"{(\w+)", here)), key
        assert there.strip(), key


@pytest.mark.web
def test_a_language_is_chosen_and_stays(site):
    site.open("/account")
    site.tab.get_by_label("Language").select_option("日本語")
    try:
        site.tab.get_by_role("link", name="ジョブ", exact=True).wait_for()
        assert site.tab.evaluate("document.documentElement.lang") == "ja"
        site.open("/models")
        site.tab.get_by_role("heading", name="モデル").wait_for()
        assert not site.barriers()
    finally:
        site.open("/account")
        site.tab.locator("select").first.select_option("English")
    site.tab.get_by_role("link", name="Jobs", exact=True).wait_for()


@pytest.mark.web
def test_a_browser_is_answered_in_its_own_language(site, browser, platform):
    context = browser.new_context(locale="zh-CN")
    try:
        tab = context.new_page()
        tab.goto(platform[0])
        expect(tab.get_by_role("button", name="登录")).to_be_visible(timeout=30_000)
        assert tab.evaluate("document.documentElement.lang") == "zh"
    finally:
        context.close()
