"""Personal data out of texts that people will read: what stays is the matter, not who told of it.

Telephone, identity, bank and licence-plate numbers, mail and messenger names, rooms of private homes and names
that follow their usual cue are replaced by a word of their kind. Telephone numbers are returned, so that a
keyed hash of them can tell the same reporter again. The original stays in the raw topic only, for as
long as that is kept. A rule masks too much rather than too little, except where it would hide the
matter's own place: buildings and entrances stay, rooms go.

Formats: GB 11643-1999 (identity number), GA 36-2018 (plates), ISO/IEC 7812 (card number
with its Luhn digit), national numbering plan of telephones.
"""

import re
from typing import NamedTuple

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
#: The commonest surnames: most of the people, few other words.
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢"
    "姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_NUMBER = r"(?<![\dA-Za-z])"
_END = r"(?![\dA-Za-z])"
_PATTERN = re.compile(
    "|".join(
        (
            rf"(?P<identity>{_NUMBER}[1-9]\d{{5}}(?:19|20)\d{{2}}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])"
            rf"\d{{3}}[\dXx]{_END})",
            rf"(?P<phone>{_NUMBER}(?:\+?86[- ]?)?"
            rf"(?:1[3-9]\d[- ]?\d{{4}}[- ]?\d{{4}}|0\d{{2,3}}[- ]?[2-9]\d{{6,7}}){_END})",
            rf"(?P<card>{_NUMBER}[3-6]\d{{15,18}}{_END})",
            rf"(?P<plate>[{_PROVINCES}][A-HJ-NP-Z][·. ]?(?=[A-HJ-NP-Z0-9]*\d)[A-HJ-NP-Z0-9]{{5,6}}{_END})",
            r"(?P<mail>[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4})",
            r"(?P<messenger>(?:QQ|qq|微信|WeChat|wechat|VX|vx)(?:群|号|号码)?[::是 ]{0,2}[A-Za-z0-9_-]{5,20})",
            r"(?P<room>(?<=[栋楼座元幢])\d{1,2}层?(?:-\d{1,4}|\d{2,3})?[室房户])",
            r"(?P<name>(?:(?:姓名|联系人|投诉人|举报人|反映人|来电人|申请人|业主)(?:[: ]{1,2}|是|为)|我叫)"
            r"(?P<who>[一-龥]{2,4})(?=[,。;: 、\d(先女,]|$)|本人(?P<self>["
            + _SURNAMES
            + r"][一-龥]{1,2})(?=,))",
        )
    )
)
_WORDS = {
    "identity": "[证件号]",
    "phone": "[电话]",
    "card": "[卡号]",
    "plate": "[车牌]",
    "mail": "[邮箱]",
    "messenger": "[账号]",
    "room": "[室]",
}
#: A text without any of these holds nothing that the pattern finds; most texts are done here.
_HINT = re.compile(
    r"\d{4}|[室房户@]|[A-HJ-NP-Z]\d|姓名|我叫|本人|[系诉报映电请]人|QQ|qq|微信|[vV][xX]|echat"
)


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
        kind = found.lastgroup or ""
        if found["name"] is not None:
            who = found["who"] or found["self"]
            return found[0].removesuffix(who) + who[0] + "某"
        if kind == "phone":
            phones.append(telephone(found[0]))
        elif kind == "card" and not _luhn(found[0]):
            return found[0]
        return _WORDS[kind]

    masked = _PATTERN.sub(word, text)
    return Masked(masked, tuple(phones))


def telephone(text: str) -> str:
    """A telephone number as its digits, without the country's prefix: one person, one form."""
    digits = re.sub(r"\D", "", text)
    return digits.removeprefix("86") if len(digits) > 11 else digits


def _luhn(number: str) -> bool:
    if not number.isdecimal():
        return False
    digits = [int(digit) for digit in reversed(number)]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0
