"""Texts that tokenizers get wrong. Our own writing; used by make_goldens.py."""

import random

_rng = random.Random(7)


def _random_text(alphabet, length):
    return "".join(_rng.choice(alphabet) for _ in range(length))


TEXTS = [
    "",
    " ",
    "  ",
    "a",
    "\n",
    "Hello, world!",
    " Hello",
    "Hello ",
    "  two  spaces   three    four     five ",
    "The river carries the stone under the bridge, and it's 12345 times.",
    "unreachable unreachableword Zebra Zebras Quixotic  Quixotic мир",
    # Contractions, in odd case and with odd apostrophes.
    "I'm you're he's they've we'll I'd can't I'M YOU'RE HE'S THEY'VE WE'LL I'D CAN'T",
    "'sit 'Tis 'S'T'RE'VE'M'LL'D ''s ' s 's't don’t O'Reilly's 'ſ 'K",
    # Numbers.
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 1e-9 0x1F ½ ² Ⅷ ٣٤٥ १२३ 一二三 1️⃣2️⃣",
    # White space: tabs, NBSP, em space, ideographic space, CRLF, vertical tab, NEL, U+180E, U+200B.
    "a\tb\t\tc\t\t\t d",
    "a\u00a0b\u00a0\u00a0c \u00a0 d",
    "a\u2003b \u2003 c\u3000d\u2028e\u2029f\u0085g\u180eh\u200bi\ufeffj",
    "line one\r\nline two\r\n\r\nline four\rline five\n\n\nend\n",
    "x \n y\n  \n\t\n z   \n",
    "\x0b\x0c\x1c\x1d\x1e\x1f a \x00 b \x7f",
    "    indented\n        more\n\tdef f(x):\n\t\treturn x**2  # squared\n",
    "trailing spaces   ",
    "trailing newline   \n",
    # CJK, with and without spaces and kana, fullwidth, rare planes.
    "北京的天气很好。今天我们去公园散步,然后吃饭。",
    "東京タワーは高いです。カタカナとひらがなとABCと123。",
    "안녕하세요 세계! 오늘 날씨가 좋네요.",
    "fullwidth ＡＢＣ１２３！？ ㍿ ㌔ 𠀀𠀁𪛖 𝒜𝓁𝑔ℯ𝒷𝓇𝒶",
    # Emoji: skin tones, ZWJ families, flags, keycaps, variation selectors, tags.
    "😀 😃😄 👍🏽👩🏿‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️ ☺︎ ☺️",
    "🇩🇪🇫🇷🇯🇵🇺 flags 🏴󠁧󠁢󠁳󠁣󠁴󠁿 end",
    # Combining marks: composed, decomposed, stacked, reordered, Hangul jamo, exclusions.
    "café cafe\u0301 naïve nai\u0308ve Å A\u030a \u212b ñ n\u0303",
    "q\u0323\u0307 q\u0307\u0323 \u1e9b\u0323 a\u0301\u0327\u0328\u030a\u0315",
    "\u1112\u1161\u11ab\u1100\u1173\u11af 한글 \u0344 \u0958 \u2126 \ufb1d \u0f73 \uf900",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334a\u0349\u035a\u0346l\u0359g\u0316o",
    "\u0301starts with a mark",
    "x" + "\u0301\u0316" * 80 + "y e" + "\u0316" * 5 + "\u0301\u0328" * 70,
    # Other scripts, right to left, joiners.
    "مرحبا بالعالم! كيف حالك؟ ١٢٣ العَرَبِيَّة",
    "שלום עולם, מה שלומך? שָׁלוֹם",
    "नमस्ते दुनिया क्षत्रिय र्‍य श्री",
    "สวัสดีชาวโลก วันนี้อากาศดี",
    "Привет, мир! Ёлка И\u0306 й Їжак",
    "Γειά σου Κόσμε ΟΔΥΣΣΕΥΣ ς Ά Α\u0301",
    "Việt Nam Vie\u0302\u0323t İstanbul ı ß ẞ ŉ ǰ",
    "mixed שלום world مرحبا 12 \u202eoverride\u202c \u2066isolate\u2069",
    # Punctuation and code.
    "!!! ??? ... --- ___ *** ### <<>> [[]] {{}} (()) && || // \\\\ @@ $$ %% ^^ ~~ ``",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; } // done\n#include <vector>\n",
    '{"key": "value", "list": [1, 2.5, null], "nested": {"a\\"b": true}}',
    "https://example.org/path?q=1&r=%20#frag user@example.org C:\\dir\\file.txt",
    "«quotes» “curly” ‘single’ „low“ … — – • ™ © € £ ¥ § ¶ † ‡",
    "-1 +2 a-b a_b A.B.C. e.g. i.e. U.S.A. 10:30 2024-06-07T12:00:00Z",
    # Special and added tokens inside text, and near misses.
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n",
    "a<|endoftext|>b <|endoftext|> c<|endoftext|><|endoftext|>",
    "<s>text</s> <s> text </s><unk><s></s>[INST] hi [/INST]there</s>",
    "<|im_start <|im_start|> |> <|im_start|><|im_start|x <0x41><0x0A> <0xE2>",
    "one [left] two  [left]three [right] four[right]  \n five [both] six\t[both]\tseven",
    "[left] [left][right] [right][both] [both] [le [lef [left  [right]",
    "cat cats concat cat's a cat, dog dogs hotdog dog. _cat 1cat cat1 écat cat\u0301 dog",
    "   spaces    become     tokens é e\u0301 éé",
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
    "# a # b ## THE the The tHe,the,,end, 12a34 # ",
    # SentencePiece's own space.
    "▁ ▁▁ a▁b ▁a a▁ \u2581 ▁The",
    # Long words.
    "a" * 300,
    "ab" * 200,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "北" * 120,
    " " * 100 + "x",
    "\n" * 60,
    " \n" * 40 + "end",
    "0123456789" * 25,
    "😀" * 40,
    "é" * 50 + "e\u0301" * 50,
    _random_text("abcdefghijklmnopqrstuvwxyz      ", 600),
    _random_text("theThe riv stone'sS0123\n\t.,", 600),
    _random_text([chr(c) for c in range(0x20, 0x250)], 300),
    _random_text([chr(c) for c in list(range(0x300, 0x370)) + list(range(0x61, 0x67))], 300),
    _random_text([chr(c) for c in range(0x900, 0x1200)], 200),
    _random_text([chr(c) for c in range(0x1F300, 0x1F700)], 120),
    _random_text(["\n", "\r", " ", "\t", "\u00a0", "\u2003", "a", "1", "."], 400),
]

# Bytes that are not UTF-8: what Python's errors="replace" makes of them is encoded.
INVALID_UTF8 = [
    b"\xff",
    b"abc\x80def",
    b"\xe2\x82",
    b"\xe2\x82 next \xf0\x9f\x98",
    b"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf overlong",
    b"\xed\xa0\x80\xed\xb0\x80 surrogates",
    b"\xf4\x90\x80\x80 beyond \xf5\xff",
    b"ok \xc3\xa9 \xc3 bad \xe9t\xe9 latin-1",
    b"\xf0\x9f\x98\xf0\x9f\x98\x80\x80",
    bytes(_rng.randrange(256) for _ in range(200)),
]
