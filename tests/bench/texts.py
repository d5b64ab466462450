"""Texts of every length and many scripts, and hostile ones: what a soak feeds."""

import base64

SENTENCES = (
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Rechnungen werden zehn Jahre aufbewahrt, danach gelöscht.",
    "Les factures sont conservées pendant dix ans à compter de la clôture.",
    "Счета хранятся десять лет, после чего удаляются.",
    "发票保存十年，之后予以销毁。",
    "請求書は十年間保管され、その後廃棄されます。",
    "تحفظ الفواتير لمدة عشر سنوات ثم تتلف.",
    "चालान दस वर्षों तक रखे जाते हैं।",
    "ใบแจ้งหนี้จะถูกเก็บไว้สิบปี",
    "🙂🚀 números: 3.141.592,65 € ≠ ∑ x²",
)


def prose(dice, characters):
    """About so many characters, in one to three languages."""
    mix = dice.sample(SENTENCES, dice.randint(1, 3))
    text = ""
    while len(text) < characters:
        text += dice.choice(mix) + dice.choice((" ", " ", "\n", "\n\n"))
    return text[:characters] or "a"


def hostile(dice, characters):
    """Words without end, noise, blanks, combining marks."""
    return dice.choice((
        lambda: "a" * characters,
        lambda: base64.b64encode(dice.randbytes(characters)).decode()[:characters],
        lambda: "x" + "\n" * characters + "y",
        lambda: "e\u0301\u0302\u0303" * (characters // 4 + 1),
        lambda: "z\u200b" * (characters // 2 + 1),
        lambda: "# " * (characters // 2 + 1),
        lambda: " ".join(str(dice.getrandbits(256)) for _ in range(characters // 70 + 1)),
    ))()


def document(dice):
    """One character to 60,000, short ones as likely as long ones; one in six is hostile."""
    characters = int(10 ** dice.uniform(0, 4.8))
    return (hostile if dice.random() < 1 / 6 else prose)(dice, characters)


def question(dice):
    """One character to 2,000."""
    characters = int(10 ** dice.uniform(0, 3.3))
    return (hostile if dice.random() < 1 / 6 else prose)(dice, characters)[:2000].strip() or "?"
