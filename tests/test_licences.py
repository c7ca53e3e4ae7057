"""Licences: expressions mean what SPDX says they mean, unknown is never safe, and credits cannot be forged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lock import record

from randscene.manifests import LicencePolicy, attribution_markdown, commercial_safe
from randscene.manifests.licences import (
    asks_for_credit,
    credit_line,
    lacks_credit,
    licence_link,
    nearest_name,
    one_line,
    spdx_spelling,
    unknown_names,
)

SAFE = [
    "CC0-1.0", "CC-BY-4.0", "MIT", "mit", "MIT-0", "CC-BY-NC-4.0 OR MIT", "MIT AND Apache-2.0",
    "MIT AND (CC-BY-NC-4.0 OR CC-BY-4.0)", "(MIT)", "Apache-2.0 WITH LLVM-exception",
]  # fmt: skip
UNSAFE = [
    "CC-BY-NC-4.0", "CC-BY-ND-4.0", "NOASSERTION", "", "MIT AND CC-BY-NC-4.0", "Some words (MIT)", "MIT AND",
    "(MIT OR CC0-1.0) AND CC-BY-NC-4.0", "MIT WITH Commons-Clause", "LicenseRef-MIT-Discord", "MIT Apache-2.0", "(MIT",
]  # fmt: skip


@pytest.mark.parametrize("licence", SAFE)
def test_commercial_use_is_allowed_where_every_needed_licence_allows_it(licence):
    assert commercial_safe(licence)
    assert LicencePolicy(commercial_only=True).accepts(licence)


@pytest.mark.parametrize("licence", UNSAFE)
def test_what_is_forbidden_unknown_or_no_expression_is_not_safe(licence):
    assert not commercial_safe(licence)
    assert not LicencePolicy(commercial_only=True).accepts(licence)
    assert LicencePolicy().accepts(licence)


def policy(*, allow: str = "", deny: str = "", **changes) -> LicencePolicy:
    names = frozenset(filter(None, allow.split(", "))) or None
    return LicencePolicy(allow=names, deny=frozenset(filter(None, deny.split(", "))), **changes)


@pytest.mark.parametrize(
    ("rules", "licence", "accepted"),
    [
        (policy(allow="MIT"), "MIT", True),
        (policy(allow="MIT"), "CC0-1.0", False),
        (policy(allow="mit"), "MIT", True),
        (policy(allow="MIT", deny="MIT"), "MIT", False),
        (policy(allow="MIT"), "MIT OR GPL-3.0-only", True),
        (policy(allow="MIT"), "MIT AND GPL-3.0-only", False),
        (policy(allow="MIT AND GPL-3.0-only"), "MIT AND GPL-3.0-only", True),
        (policy(deny="GPL-3.0-only"), "MIT OR GPL-3.0-only", True),
        (policy(deny="GPL-3.0-only"), "MIT AND (Zlib OR GPL-3.0-only)", True),
        (policy(deny="GPL-3.0-only"), "MIT AND GPL-3.0-only", False),
        (policy(deny="MIT OR Zlib"), "MIT OR Zlib", False),
        (policy(deny="Apache-2.0"), "Apache-2.0 WITH LLVM-exception", False),
        (policy(allow="Apache-2.0"), "Apache-2.0 WITH LLVM-exception", True),
        (policy(allow="Apache-2.0"), "Apache-2.0 WITH Commons-Clause", False),
        (policy(allow="NOASSERTION"), "", True),
        (policy(allow="CC-BY-4.0, CC-BY-NC-4.0", commercial_only=True), "CC-BY-NC-4.0", False),
        (policy(deny="MIT", commercial_only=True), "MIT OR CC-BY-NC-4.0", False),
    ],
)
def test_a_policy_accepts_what_one_of_the_choices_allows(rules, licence, accepted):
    assert rules.accepts(licence) is accepted


def test_names_that_spdx_does_not_list_are_pointed_out():
    assert policy(allow="MIT, CC-BY-4.0, CC BY 4.0", deny="GPL3, NOASSERTION").unknown_names() == ["CC BY 4.0", "GPL3"]
    assert unknown_names("MIT OR Wrong-1.0") == ["Wrong-1.0"]


def test_the_name_that_was_most_likely_meant_is_found():
    meant = {
        "CC0": "CC0-1.0", "CC0 1.0": "CC0-1.0", "CC-BY": "CC-BY-4.0", "cc by 4": "CC-BY-4.0",
        "CC BY-NC": "CC-BY-NC-4.0", "apache2": "Apache-2.0", "MIT License": "MIT", "MITT": "MIT",
        "GPL3": "GPL-3.0-only", "LGPLv3": "LGPL-3.0-only", "LGPL v3": "LGPL-3.0-only", "do what you like": "", "": "",
    }  # fmt: skip
    assert {name: nearest_name(name) for name in meant} == meant


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["MIT", "CC0-1.0", "GPL-2.0", "AND", "OR", "WITH", "(", ")", "and", "+", "/", "\x00", "é", "-"])
    ),
    st.sampled_from(["", " "]),
)
def test_no_text_breaks_the_reading_of_expressions(parts, glue):
    text = glue.join(parts)
    spelled = spdx_spelling(text)
    assert spelled and "\n" not in spelled
    assert spdx_spelling(spelled) == spelled
    assert commercial_safe(text) == commercial_safe(spelled)
    assert asks_for_credit(text) in (True, False)


def test_spelling_is_that_of_spdx():
    assert spdx_spelling("mit and (cc-by-4.0 or zlib)") == "MIT AND (CC-BY-4.0 OR Zlib)"
    assert spdx_spelling("GPL-2.0") == "GPL-2.0-only"
    assert spdx_spelling(" \n") == "NOASSERTION"
    assert spdx_spelling("Free\nfor all (really)") == "Free for all (really)"


def test_a_credit_names_work_author_origin_and_licence_or_is_none():
    full = credit_line(name="A\nchair", author="Ann", origin="https://example.org/1", licence="CC-BY-4.0")
    assert full == '"A chair" by Ann (https://example.org/1), CC-BY-4.0'
    assert credit_line(name=None, author="Ann", licence="MIT") == "by Ann, MIT"
    assert credit_line(name="A chair", author="", licence="CC-BY-4.0") == ""
    assert one_line("a\u2028b\x07\tc") == "a b c"
    assert len(one_line("x" * 999)) == 200


def test_attribution_names_every_credit_once_and_cannot_be_forged():
    text = attribution_markdown(
        [
            record("a", licence="CC-BY-4.0", attribution="Ann"),
            record("b", licence="CC-BY-4.0", attribution="Ann"),
            record("c", attribution="Bob\n## Public domain\n<script>"),
            record("d", licence="NOASSERTION"),
        ]
    )
    assert text.count("Ann") == 1
    assert "* 2 assets: Ann" in text
    assert "`c`: Bob ## Public domain &lt;script&gt;" in text
    assert sum(line.startswith("## ") for line in text.splitlines()) == 3
    assert "No licence is known" in text
    assert "is not known" not in text


def test_attribution_says_where_each_licence_stands_and_which_credit_is_missing():
    records = [
        record("a", licence="CC-BY-4.0"),
        record("b", licence="MIT OR CC-BY-NC-SA-4.0", attribution="Bob"),
        record("c", licence="CC0-1.0"),
        record("d", licence="MIT-0"),
    ]
    text = attribution_markdown(records)
    for link in ("https://creativecommons.org/licenses/by/4.0/", "https://spdx.org/licenses/MIT.html"):
        assert f"<{link}>" in text
    assert "**The credit that the licence asks for is not known: 1 asset.**" in text
    assert "* `a`: **no author stated, though the licence asks for one**" in text
    assert "* `c`: no author\n" in text
    assert [lacks_credit(item) for item in records] == [True, False, False, False]
    assert licence_link("Something else") == ""
    assert licence_link("CC-BY-NC-ND-3.0") == "https://creativecommons.org/licenses/by-nc-nd/3.0/"
