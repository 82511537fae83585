"""Personal data out of texts that people will read: what stays is the matter, not who told of it.

Telephone, identity, passport, bank and licence-plate numbers, mail and messenger names, rooms of private homes
and names that follow their usual cue are replaced by a word of their kind. A surname with its title (王先生)
is how offices speak of somebody whom they do not name, and shops are called so: it stays. Telephone numbers
are returned, so that a keyed hash of them can tell the same reporter again. The original stays in the raw
topic only, for as long as that is kept. A rule masks too much rather than too little, except where it would
hide the matter's own place: buildings and entrances stay, rooms go.

Formats: GB 11643-1999 (identity number with the check digit of ISO 7064 MOD 11-2, of which 1989 had 15 digits
and none), GA 36-2018 (plates), ISO/IEC 7812 (card number with its Luhn digit), national numbering plan of
telephones. Offices number their cases by region and day as well, so that an identity number is one by its check
digit or by the word before it; numbers that a city publishes (12345, 400…) stay.
"""

import hashlib
import re
from typing import NamedTuple

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
#: The commonest surnames: most of the people, few other words.
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢"
    "姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
#: Surnames that are no beginning of another word after a cue (向有关…, 于2019年, 方面, 任何, 江西).
_SURE = "".join(name for name in _SURNAMES if name not in "向于方任何万江石金高马白路田")
#: What ends a place or a kind of person, not a name.
_NO_GIVEN = "(?![区县市镇乡村路街院校店民主户长生员工人师家们的了是有在不和与及被把将])[一-龥]"
_NAMED = rf"[{_SURE}](?:{_NO_GIVEN}){{1,2}}"
_SAYS = r"(?=[,。;:、( \d]|反映|来电|来访|投诉|举报|诉求|电话|手机|身份证|住址|家住|$)"
_NUMBER = r"(?<![\dA-Za-z])"
_END = r"(?![\dA-Za-z])"
_REGION = r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])\d{4}"
_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_PATTERN = re.compile(
    "|".join(
        (
            rf"(?P<identity>{_NUMBER}{_REGION}(?:19|20)\d{{2}}{_DAY}\d{{3}}[\dXx]{_END})",
            r"(?P<paper>(?<=证)(?:件)?(?:号码|号)?[:是为 ]{0,2}(?P<papers>[1-9]\d{16}[\dXx]|[1-9]\d{14})"
            rf"{_END}|护照(?:号码|号)?[:是为 ]{{0,2}}(?P<passport>[A-Za-z]{{1,2}}\d{{7,8}}){_END})",
            rf"(?P<phone>{_NUMBER}(?:\+?86[- ]?)?"
            r"(?:1[3-9]\d[- ]?\d{4}[- ]?\d{4}|0\d{2,3}[- ]?[2-9]\d{2,3}[- ]?\d{4})"
            rf"{_END}|(?<=电话|座机)(?:号码|号)?[:是为 ]{{0,2}}(?P<local>[2-8]\d{{2,3}}[- ]?\d{{4}}){_END})",
            rf"(?P<card>{_NUMBER}[3-6]\d{{3}}(?:[ -]?\d{{4}}){{2}}[ -]?\d{{3,4}}(?:[ -]?\d{{1,3}})?{_END})",
            rf"(?P<plate>[{_PROVINCES}][A-HJ-NP-Za-hj-np-z][·. ]?(?=[A-Za-z0-9]*\d)"
            rf"(?:[A-HJ-NP-Za-hj-np-z0-9]{{5,6}}|[A-HJ-NP-Za-hj-np-z0-9]{{4}}[学警港澳领使挂]){_END})",
            r"(?P<mail>[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4})",
            r"(?P<messenger>(?:QQ|qq|微信|WeChat|wechat|VX|vx)(?:群|号|号码)?[::是 ]{0,2}[A-Za-z0-9_-]{5,20})",
            r"(?P<room>(?<=[栋楼座元幢])\d{1,2}层?(?:-\d{1,4}|\d{2,3})?(?:[室房]|(?<=\d{3})户(?![\d业居村住家人的]))"
            r"|(?<=单元)\d{3,4}(?![\d室房户])"
            r"|(?<=[楼层元])[东西中南北][东西中南北边]?户|(?<=[院区苑园寓府城湾庭栋楼]\d-\d-)\d{3,4}(?![\d-])"
            r"|(?<=[院区苑园寓府城湾庭栋楼]\d\d-\d-)\d{3,4}(?![\d-]))",
            r"(?P<name>(?:(?:姓名|联系人|投诉人|举报人|反映人|来电人|申请人|当事人|法人|户主|户名|业主)"
            rf"(?:[: ]{{1,2}}|[是为](?={_NAMED}))|我叫|名叫|名字叫|名字是)"
            r"(?P<who>[一-龥]{2,4})(?=[,。;: 、\d(先女]|$)"
            rf"|(?:姓名|联系人|投诉人|举报人|反映人|来电人|申请人|户主|户名)(?P<bare>{_NAMED}){_SAYS}"
            rf"|本人(?P<self>{_NAMED}){_SAYS}"
            rf"|(?<![一-龥])(?P<titled>{_NAMED})(?=(?:先生|女士)(?:[,。;:、( \d]|反映|来电|称|$)))",
        )
    )
)
_WORDS = {
    "identity": "[证件号]",
    "paper": "[证件号]",
    "phone": "[电话]",
    "card": "[卡号]",
    "plate": "[车牌]",
    "mail": "[邮箱]",
    "messenger": "[账号]",
    "room": "[室]",
}
#: A text without any of these holds nothing that the pattern finds; most texts are done here.
_HINT = re.compile(
    r"\d{4}|[室房户@]|[A-HJ-NP-Za-hj-np-z]\d|\d-\d|[我名字]叫|名字是|姓名|本人|[系诉报映电请事]人|法人|先生|女士"
    r"|QQ|qq|微信|[vV][xX]|echat"
)
#: Weights of the 17 digits before the check digit, and what it is for each remainder (GB 11643-1999).
_WEIGHTS, _CHECK = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), "10X98765432"


class Masked(NamedTuple):
    """A text without personal data, and the telephone numbers (digits only) that stood in it."""

    text: str
    phones: tuple[str, ...] = ()


def mask(text: str) -> Masked:
    """Mask a cleaned text (NFKC); what is masked once stays as it is."""
    if not text or not _HINT.search(text):
        return Masked(text)
    phones: list[str] = []

    def word(found: re.Match[str]) -> str:
        if found["name"] is not None:
            who = found["who"] or found["bare"] or found["self"] or found["titled"]
            return found[0].removesuffix(who) + who[0] + "某"
        kind = next(name for name in _WORDS if found[name] is not None)
        # What follows its cue, and is masked whatever its digits are.
        number = found["papers"] or found["passport"] or found["local"] or found[0]
        if kind == "phone":
            phones.append(telephone(number))
        elif (kind == "card" and not _luhn(re.sub("[ -]", "", number))) or (
            kind == "identity" and not _checked(number)
        ):
            return found[0]
        return found[0].removesuffix(number) + _WORDS[kind]

    masked = _PATTERN.sub(word, text)
    return Masked(masked, tuple(phones))


def telephone(text: str) -> str:
    """A telephone number as its digits, without the country's prefix: one person, one form."""
    digits = re.sub(r"\D", "", text)
    return digits.removeprefix("86") if len(digits) > 11 else digits


def reporter_hash(key: bytes, reporter: str) -> str:
    """The keyed hash under which a reporter (a cleaned text) is known again; empty for nobody.

    However a telephone number was written, it is one reporter.
    """
    if not reporter:
        return ""
    if len(reporter) < 24 and len(digits := telephone(reporter)) >= 11:
        reporter = digits
    return hashlib.blake2b(reporter.encode(), key=key, digest_size=16).hexdigest()


def _checked(number: str) -> bool:
    """Whether the last of 18 characters is the check digit of the others."""
    if not number.isascii():
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _CHECK[total % 11] == number[-1].upper()


def _luhn(number: str) -> bool:
    if not number.isdecimal():
        return False
    digits = [int(digit) for digit in reversed(number)]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0
