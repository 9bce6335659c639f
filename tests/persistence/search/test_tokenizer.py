"""Search finds words of every script, and ignores nothing that it is asked for in silence."""

from __future__ import annotations

import sys
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from graph.kit.auth import Scope
from persistence.items import table as items
from persistence.items.table import ItemValues
from persistence.kit.search import tokenizer

if TYPE_CHECKING:
    from tests.support.service import Service

FOUND = (
    "query Found($search: String, $filter: ItemFilter) { items(search: $search, filter: $filter) { matching totalCount nodes { name } } }"
)
NAMED = "query Named($search: String) { users(search: $search) { totalCount nodes { username } } }"

# A text, what finds it, and what does not.
TEXTS: dict[str, tuple[list[str], list[str]]] = {
    # Marks and format characters belong to the word.
    "हिन्दी": (["हिन्दी", "हिन्", "हि", "हि\u200dन्दी"], ["नदी", "दी", "ही", "हन"]),
    "होटल नदी": (["नदी", "होटल", "नदी होटल"], ["हिन्दी", "टल"]),
    "தமிழ்": (["தமிழ்", "தமி"], ["ழ்", "தமல"]),
    "क़लम": (["क़लम", "कलम", "क\u093cलम"], ["लम"]),
    "שָׁלוֹם עולם": (["שלום", "שָׁלוֹם", "עולם"], ["לום"]),
    "كِتاب عربـــي": (["كتاب", "عربي", "كتا"], ["تاب"]),
    "کتاب فارسی می\u200cخواهم": (["كتاب", "فارسي", "میخواهم", "می\u200cخواهم"], ["خواهم"]),
    "Kaffee\u00admaschine": (["kaffeemaschine", "kaffee\u00admaschine", "KAFFEEM", "kaf\u2060fee"], ["maschine"]),
    "Donau\u200bdampf": (["donau", "dampf"], ["donaudampf"]),  # The zero-width space parts words. Source: UAX #29, table 3.
    "a\ufe0fb c\u034fd": (["ab", "cd"], ["b", "d"]),
    "한국 음식": (["한국", "음식", "하", "한구"], ["국"]),
    # Letters that readers leave the adornment of.
    "Łódź": (["lodz", "łódź", "ŁÓDŹ", "lo\u0301dz"], ["odz"]),
    "Øresund Bjørn Đorđe Ħamrun Ŧ Ɖu": (["oresund", "bjorn", "dorde", "hamrun", "t", "du"], ["resund"]),
    "Æsir cœur Þór Ðuro Straße ẞ Ĳssel": (["aesir", "coeur", "thor", "duro", "strasse", "ss", "ijssel"], ["esir"]),
    "İstanbul ılıca ISPARTA": (["istanbul", "ilica", "ılıca", "isparta", "İSPARTA"], ["stanbul"]),
    "Ŋaŋ ĸ ȷ Əliyev ɓaɗe ʉ": (["nan", "k", "j", "eliyev", "bade", "u"], ["aliyev"]),
    "tiếng Việt": (["tieng viet", "TIẾNG", "vie\u0302\u0323t"], ["iet"]),
    "Қазақ Ґрунт Ёлка": (["казак", "грунт", "елка"], ["азак"]),
    "ΣΊΣΥΦΟΣ": (["σισυφος", "σίσυφοσ", "ΣΙΣ"], ["ισυφος"]),
    "ﬁne 𝐁𝐨𝐥𝐝 ＦＵＬＬ ①": (["fine", "bold", "full", "1"], ["ine"]),
    "١٢٣ ۴۵۶ ๗๘ १२": (["123", "456", "78", "12", "١٢"], ["23"]),
    "Hawaiʻi": (["hawaii", "hawaiʻi"], ["awaii"]),
    # Letters that languages of one script, or the ends of words, have each their own of.
    "مدرسہ مكتبة گھر خاں": (["مدرسه", "مدرسة", "مکتبہ", "مکتبە", "گهر", "خان"], ["درسه", "کهر"]),
    "ڕۆژ کوردستانێ": (["روژ", "كوردستاني", "كوردستانے"], ["وژ"]),
    "שולחנות ספרים": (["שולחן", "שולחנ", "ספרימ", "ספרים"], ["ולחן"]),
    "װאָס ייִדיש": (["וואס", "ײדיש"], ["ואס"]),
    "चाँद": (["चांद", "चा"], ["चद"]),
    "അവൻ উৎসব": (["അവന്\u200d", "അവന്", "উত্\u200dসব"], ["വൻ"]),
    # Of scripts without spaces any part is found.
    "人气中文字典查询工具": (
        ["中文", "中", "字典查询", "人气中文字典查询工具", "典查询工具", "具"],
        ["中字", "查典", "中文词", "人气中文典查询工"],
    ),
    # More than a window of them is found side by side only, though each window is there elsewhere.
    "東京都港区 京都港区東 京都港東": (["東京都港区", "京都港区東", "東京都港区 京都港東"], ["東京都港東", "東京都港区東", "港区京都港"]),
    "ここここここか": (["こここここここ"[:6], "ここここか", "ここここここか"], ["こここここここ", "かここここ"]),
    "กาแฟสดแท้ ฟสดแท้กา": (["กาแฟสดแท้", "าแฟสดแท้", "ฟสดแท้กา", "กาแฟสดแท"], ["กาแฟสดแท้กา", "แฟสดแท้กา"]),
    "第3版中文": (["中文", "第3版", "3"], ["第版"]),
    "Bluetooth耳机 (降噪)": (["耳机", "机", "bluetooth", "降噪", "噪"], ["耳噪", "tooth"]),
    "これはガラスのコップです": (["ガラス", "ｶﾞﾗｽ", "コップ", "です", "はガ"], ["カラス", "かは", "スコップ"]),
    "電子レンジ・コーヒー": (["レンジ", "電子レンジ", "コーヒー", "ヒー", "ー", "こーひー", "電子れんじ", "ﾚﾝｼﾞ"], ["ジコ"]),
    "りんごのヴィネガー": (["リンゴ", "りんご", "ゔぃねがー"], ["リンコ", "ウィネ"]),
    "佐々木〆〇": (["々木", "〆", "〇"], ["佐木"]),
    "เครื่องชงกาแฟ": (["กาแฟ", "เครื่อง", "ชง", "ชงกาแฟ"], ["กาชง", "ชงแฟ"]),
    "น้ำดื่ม": (["ดื่ม", "น้ำ", "น้ำดื่ม", "น\u0e4d\u0e49\u0e32", "น\u0e49\u0e4d\u0e32"], ["ดืม"]),
    "ນ\u0ecd\u0ec9\u0eb2": (["ນ້ຳ", "ນ\u0ec9\u0ecd\u0eb2"], ["ນຳ"]),
    "ເຄື່ອງຊົງກາເຟ": (["ກາເຟ", "ຊົງ"], ["ຊົງເຟ"]),
    "ម៉ាស៊ីនឆុងកាហ្វេ": (["កាហ្វេ", "ឆុង"], ["ឆុងហ្វេ"]),
    "ស្រា\u200bបៀរ": (["ស្រាបៀរ", "ស្រា\u200bបៀរ", "បៀរ"], ["ស្របៀរ"]),
    "ကော်ဖီဖျော်စက်": (["ဖျော်", "ကော်ဖီ", "စက်"], ["ကော်စက်"]),
    "က" + "ာ" * 70 + "ခ": (["က" + "ာ" * 63, "ခ", "ကာ"], ["ကခ"]),  # The window of a query is no longer than a word.
    "ㄅㄆㄇ": (["ㄆㄇ"], ["ㄅㄇ"]),
    # An apostrophe between letters is of the word, whichever is typed; what follows is one, too.
    "Don't O’Neill": (
        ["don't", "don’t", "DON＇T", "dont", "don‘t", "don`t", "don", "o'neill", "oneill", "neill", "t neill"],
        ["do'n't't", "on't"],
    ),
    "snake_case Chef's L’eau col·lecció": (["case", "chef's", "chef’s", "l'eau", "eau", "coŀlecció", "colleccio", "leccio"], ["ase", "au"]),
    "rock 'n' drum'n'bass 90's 'quoted'": (["rock 'n'", "'n'", "drum'n'bass", "n'bass", "bass", "90's", "'quoted'", "quoted'"], ["uoted"]),
    "צה״ל ז׳אן": (["צה״ל", "צהל", "ז'אן", "זאן"], ["הל"]),
    "п'ять Кам’янець": (["п'ять", "п’ять", "пять", "ять", "камянець"], ["мянець"]),
    # Other punctuation parts words.
    "ada@example.com": (["ada", "example", "ada@example.com", "com"], ["xample"]),
}


async def fill(service: Service) -> None:
    async with service.database.transaction() as work:
        drafts = [ItemValues(text, Decimal(1)) if number % 2 else ItemValues("x", Decimal(1), text) for number, text in enumerate(TEXTS)]
        for draft in drafts:
            draft.check()
        await items.create_all(work, drafts, owner_id=None)


async def places(service: Service, query: str) -> set[str]:
    """The texts that have a query's own words, as a page and as a count."""
    listed = "query ($s: String) { items(search: $s, first: 50) { matching nodes { name description } } }"
    page = (await service.ask(listed, {"s": query}))["items"]
    texts = {row["description"] or row["name"] for row in page["nodes"]} if page["matching"] == "EXACT" else set[str]()
    assert await count(service, {"search": query, "filter": {"priceMin": "1"}}) == len(texts)
    return texts


async def count(service: Service, variables: dict[str, Any]) -> int:
    """How many items have a query's own words, and not others near to them."""
    found = (await service.ask(FOUND, variables))["items"]
    return found["totalCount"] if found["matching"] == "EXACT" else 0


async def test_finds_words_of_every_script_on_every_database(service: Service) -> None:
    await fill(service)
    indexed = {text: tokenizer.indexed(*([text] if number % 2 else ["x", text])).split() for number, text in enumerate(TEXTS)}
    for text, (finding, missing) in TEXTS.items():
        for query in (*finding, *missing):
            found = await places(service, query)
            assert (text in found) == (query in finding), query
            prefixes = tokenizer.prefixes(query)
            likely = {text for text, words in indexed.items() if all(any(w.startswith(p) for w in words) for p in prefixes)}
            assert found == {text for text in likely if all(f" {run}" in f" {' '.join(indexed[text])}" for run in tokenizer.runs(query))}, (
                query
            )


async def test_finds_users_alike(service: Service) -> None:
    token = await service.sign_in(Scope.USERS_READ, username="zz-reader")
    await service.make_user("lodz", full_name="Łucja Żółć")
    await service.make_user("hindi", full_name="हिन्दी प्रेमी")
    await service.make_user("han", full_name="王小明")
    for query, names in (("lucja zolc", ["lodz"]), ("हिन्दी", ["hindi"]), ("दी", []), ("小明", ["han"]), ("王明", [])):
        listed = (await service.ask(NAMED, {"search": query}, token=token))["users"]
        assert ([user["username"] for user in listed["nodes"]], listed["totalCount"]) == (names, len(names))


TOO_MANY = " ".join(f"w{number}" for number in range(17))
REFUSED = {
    TOO_MANY: "search: must have at most 16 words, not 17",
    "x" * 65: "search: must have words of at most 64 characters, not 65",
    "ß" * 33: "search: must have words of at most 64 characters, not 66",
    "中" * 3 + "".join(chr(0x4E00 + number) for number in range(50)): "search: must have at most 16 words, not 18",
    "y" * 201: "search: must have at most 200 characters, not 201",
}
DOORS = {
    "items": "query ($s: String) { items(search: $s) { nodes { id } } }",
    "items, through the executor": "query ($s: String) { items(search: $s) { totalCount edges { node { id owner { email } } } } }",
    "itemsPage": "query ($s: String) { itemsPage(search: $s) { total } }",
    "users": "query ($s: String) { users(search: $s) { nodes { id } } }",
}


@pytest.mark.parametrize("query", REFUSED)
async def test_refuses_more_than_it_looks_up_and_names_the_bound(service: Service, query: str) -> None:
    token = await service.sign_in(*Scope)
    for field, document in DOORS.items():
        [error] = (await service.send(document, {"s": query}, token=token)).json()["errors"]
        assert (error["extensions"]["code"], error["message"][: len(REFUSED[query])]) == ("BAD_USER_INPUT", REFUSED[query]), field
    for form in ("csv", "txt", "json"):
        answer = await service.http.get(
            f"/api/v2/stream/items.{form}", params={"search": query}, headers={"Authorization": f"Bearer {token}"}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_USER_INPUT")
        assert answer.json()["error"]["message"].startswith(REFUSED[query])


async def test_looks_every_word_of_a_long_query_up(service: Service) -> None:
    async with service.database.transaction() as work:
        await items.create_all(
            work, [ItemValues(" ".join(f"w{number}" for number in range(15)), Decimal(1)), ItemValues("v" * 80, Decimal(1))], owner_id=None
        )
    sixteen = [f"w{number}" for number in range(16)]
    for query, found in (
        (" ".join(sixteen[:15]), 1),
        (" ".join(sixteen), 0),
        (" ".join([*sixteen[:15], *sixteen[:15]]), 1),
        ("v" * 64, 1),
        ("v" * 63 + "w", 0),
    ):
        assert await count(service, {"search": query}) == found, query


def any_character() -> list[str]:
    """Each character that is not one of a long row of likes, and some of those."""
    return [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF and (code < 0x3400 or code % 61 == 0)]


def test_makes_words_that_need_no_escaping_and_the_same_of_every_spelling() -> None:
    for char in any_character():
        words = tokenizer.words(f"é{char}é")
        assert all(char.isalnum() and not char.isupper() for word in words for char in word if char.isascii()), ascii(char)
        assert not any(char.isspace() for word in words for char in word), ascii(char)
        spellings: dict[str, Any] = {form: unicodedata.normalize(form, char) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        spellings |= {"upper": char.upper(), "lower": char.lower(), "title": char.title(), "folded": char.casefold()}
        assert {name: tokenizer.words(f"é{each}é") for name, each in spellings.items()} == dict.fromkeys(spellings, words), ascii(char)


def test_remembers_no_more_characters_than_it_says() -> None:
    folding = tokenizer.Folding(3)
    assert ["éèêëäÖ".translate(folding), len(folding)] == ["eeeeao", 3]
