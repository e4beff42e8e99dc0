"""Trains the small CLIP-style vocabulary and records CLIPTokenizer's ids on more than 10,000 strings.

Command: python scripts/golden/tokenizer.py [BPE_GZ]
  BPE_GZ  bpe_simple_vocab_16e6.txt.gz as shipped by open_clip_torch (MIT); given, models/clip-bpe/ is
          rewritten from it. Without it the committed models/clip-bpe/ is used as it is.
Writes tests/golden/tokenizer/.

The oracle is transformers' CLIPTokenizer.from_pretrained on a folder whose tokenizer_config.json has the
fields of the SDXL release (tokenizer: OpenAI CLIP-L's file; tokenizer_2: pad token "!").
"""

import collections
import gzip
import json
import pathlib
import random
import sys
import tempfile
import unicodedata

from common import GOLDEN, ROOT, update_manifest, versions
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import CLIPTokenizer

OUT = GOLDEN / "tokenizer"
SMALL = OUT / "small"
CLIP = ROOT / "models" / "clip-bpe"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
SPLIT = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
SMALL_MERGES = 1500
# Composed in Unicode 14 but unknown to the oracle's older normalisation tables.
NFC_UNSETTLED = {0x11930, 0x11935, 0x11938}


def byte_alphabet():
    """CLIP's 256 printable stand-ins for bytes, in vocabulary order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = [b for b in range(256) if b not in kept]
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(len(extra))]


def vocabulary(merges):
    alphabet = byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges] + [BOS, EOS]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == len(tokens)
    return vocab


def write_vocabulary(folder, merges):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocabulary(merges), ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def train_small():
    """Learns merges from Unicode character names and a prompt grammar: plain words, no licensed corpus."""
    words = [unicodedata.name(chr(c)).lower() for c in range(0x20, 0x2FFF) if unicodedata.name(chr(c), "")]
    words += [unicodedata.name(chr(c)).lower() for c in range(0x1F300, 0x1FAFF) if unicodedata.name(chr(c), "")] * 4
    words += [p.lower() for p in prompts(random.Random(7), 4000)]
    words += [
        "日本語 漢字",
        "привет мир",
        "été à Noël",
        "🎉🔥✨",
        "don't can't we're they've i'm she'll he'd it's",
    ] * 40
    normalizer, splitter = clip_normalizer(), clip_pre_tokenizer()
    counts = collections.Counter()
    for text in words:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    return learn_merges(counts)


def learn_merges(counts):
    """Plain BPE: merges the most frequent pair, the smallest on a tie, skipping pairs whose text is a token already."""
    spelled = {word: (*word[:-1], word[-1] + "</w>") for word in sorted(counts)}
    pairs, holders = collections.Counter(), collections.defaultdict(set)

    def account(word, sign):
        symbols = spelled[word]
        for pair in zip(symbols, symbols[1:], strict=False):
            pairs[pair] += sign * counts[word]
            (holders[pair].add if sign > 0 else holders[pair].discard)(word)

    for word in spelled:
        account(word, 1)
    tokens, merges = {c + end for c in byte_alphabet() for end in ("", "</w>")}, []
    while len(merges) < SMALL_MERGES:
        best = min((p for p in pairs if pairs[p] > 0), key=lambda p: (-pairs[p], p))
        if "".join(best) in tokens:
            pairs[best] = 0
            continue
        tokens.add("".join(best))
        merges.append(best)
        for word in sorted(holders[best]):
            account(word, -1)
            spelled[word] = merge_pair(spelled[word], best)
            account(word, 1)
    return merges


def merge_pair(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        width = 2 if symbols[i : i + 2] == pair else 1
        out.append("".join(symbols[i : i + width]))
        i += width
    return tuple(out)


def clip_normalizer():
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])


def clip_pre_tokenizer():
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )


def released_clip_merges(path):
    """The 48,894 merges OpenAI's vocabulary uses of the 262,144 in the file."""
    lines = gzip.open(path, "rt", encoding="utf-8").read().split("\n")
    return [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]


def load(folder, pad):
    """CLIPTokenizer from a folder with the tokenizer_config.json of SDXL's tokenizer (pad EOS) or tokenizer_2 (pad "!")."""
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        base = pathlib.Path(temporary)
        for name in ("vocab.json", "merges.txt"):
            (base / name).write_bytes((folder / name).read_bytes())
        (base / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(vocab, pad)))
        return CLIPTokenizer.from_pretrained(base)


def tokenizer_config(vocab, pad):
    def added(text, normalized, **more):
        return {
            "content": text,
            "lstrip": False,
            "normalized": normalized,
            "rstrip": False,
            "single_word": False,
            **more,
        }

    config = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer",
    }
    if pad == EOS:
        old = {"__type": "AddedToken"}
        return {
            **config,
            "bos_token": added(BOS, True, **old),
            "eos_token": added(EOS, True, **old),
            "unk_token": added(EOS, True, **old),
        }
    decoder = {
        str(vocab["!"]): added("!", False, special=True),
        str(vocab[BOS]): added(BOS, True, special=False),
        str(vocab[EOS]): added(EOS, False, special=False),
    }
    return {
        **config,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [],
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": EOS,
    }


# --- strings -------------------------------------------------------------------------------------

SUBJECTS = """cat dog fox owl robot castle lighthouse astronaut dragon teapot bicycle mountain forest river
city street portrait bouquet mushroom rocket whale library piano violin sandwich pumpkin snowman volcano""".split()
ADJECTIVES = """red tiny giant glowing ancient futuristic watercolor wooden golden misty neon smiling sleepy
crystal rusty floating melancholic photorealistic abstract baroque cinematic isometric pixelated""".split()
PLACES = """in the rain|on the moon|under the sea|at sunset|in a library|on a cliff|during winter|inside a bottle
beside a river|above the clouds|in Tokyo|near Mont-Saint-Michel""".replace("\n", "|").split("|")
STYLES = """oil painting|4k, highly detailed|trending on artstation|studio lighting, f/1.8, 85mm|by Alphonse Mucha
Unreal Engine 5|(masterpiece:1.2), [best quality]|--ar 16:9 --v 5|low-poly 3d render|photo, 35mm film""".replace(
    "\n", "|"
).split("|")
CONTRACTIONS = (
    "don't can't we're they've I'm she'll he'd it's IT'S DON'T y'all o'clock rock'n'roll 'tis l'été ’s don’t".split()
)
EMOJI = [
    chr(c)
    for c in (*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F6D8), *range(0x1F900, 0x1F9FF), *range(0x2600, 0x27BF))
]
EMOJI = [e for e in EMOJI if unicodedata.category(e) != "Cn"]
ZWJ = ["👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🧑🏽‍🚀", "❤️‍🔥", "👍🏿", "🇫🇷", "🇯🇵🇩🇪", "1️⃣", "#️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☺︎", "☺️"]
SPACES = ["\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", *(chr(c) for c in range(0x2000, 0x2010)),
          "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\u180e", " ", "  "]  # fmt: skip
CASES = ["İstanbul", "ISTANBUL", "ıI", "STRASSE straße ẞ", "ΑΣ ΣΑΣ ΌΔΟΣ", "Ὀδυσσεύς", "ǅ Ǆ ǆ ǈ ǋ", "Å Å Å", "K K K", "Ω Ω", "ﬁ ﬂ ﬀ",
         "Ⅷ ⅷ Ⅻ", "ⒶⒷⒸ", "ＦＵＬＬ ｗｉｄｔｈ", "𝐀𝒜𝔸", "𐐀𐐨", "Ꭰ ꭰ", "ა Ა", "Ⱥ ⱥ Ȿ", "ŉ ǰ ΐ", "À̖ à̖", "İ̇", "Ĳ ĳ"]  # fmt: skip
SCRIPTS = {
    "cjk": [(0x4E00, 0x9FFF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0xAC00, 0xD7A3), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xFF01, 0xFF5E)],
    "combining": [(0x61, 0x7A), (0x41, 0x5A), (0x300, 0x36F), (0xC0, 0x17F), (0x1E00, 0x1EFF), (0x1AB0, 0x1AC0), (0x20D0, 0x20F0)],
    "hangul_jamo": [(0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0xAC00, 0xAC80)],
    "rtl": [(0x5D0, 0x5EA), (0x591, 0x5C7), (0x621, 0x64A), (0x64B, 0x65F), (0x660, 0x669), (0x200E, 0x200F), (0x202A, 0x202E), (0x20, 0x20)],
    "indic": [(0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x20, 0x20)],
    "european": [(0x370, 0x3FF), (0x1F00, 0x1FFF), (0x400, 0x52F), (0x531, 0x587), (0x10A0, 0x10FF), (0x20, 0x20)],
    "digits": [(0x30, 0x39), (0x660, 0x669), (0x966, 0x96F), (0x2150, 0x2189), (0x2460, 0x24FF), (0x3220, 0x3247), (0xB2, 0xB9), (0x1D7CE, 0x1D7FF)],
    "ascii": [(0x20, 0x7E)],
    "latin1": [(0xA0, 0xFF), (0x20, 0x7E)],
    "controls": [(0x0, 0x20), (0x7F, 0x9F), (0x61, 0x7A)],
    "punctuation": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0x2010, 0x2027), (0x2030, 0x205E), (0x3001, 0x3020), (0x27, 0x27), (0x61, 0x7A)],
    "bmp": [(0x0, 0xD7FF), (0xE000, 0xFFFF)],
    "all": [(0x0, 0xD7FF), (0xE000, 0x10FFFF)],
}  # fmt: skip


def settled(cp):
    """Assigned in Python 3.11's Unicode 14, or a noncharacter/private-use code point: same class in every newer version."""
    return cp not in NFC_UNSETTLED and (unicodedata.category(chr(cp)) != "Cn" or (cp & 0xFFFE) == 0xFFFE)


def prompts(rng, count):
    for _ in range(count):
        parts = [
            rng.choice(["a", "an", "the", "A", "two", "3"]),
            rng.choice(ADJECTIVES),
            rng.choice(SUBJECTS),
            rng.choice(PLACES),
        ]
        text = " ".join(parts)
        if rng.random() < 0.6:
            text += ", " + rng.choice(STYLES)
        yield text.title() if rng.random() < 0.1 else text.upper() if rng.random() < 0.1 else text


def random_text(rng, ranges, longest=14):
    sizes = [b - a + 1 for a, b in ranges]
    out = []
    while len(out) < rng.randint(1, longest):
        a, b = rng.choices(ranges, weights=[min(s, 3000) for s in sizes] if len(ranges) > 2 else sizes)[0]
        cp = rng.randint(a, b)
        if settled(cp):
            out.append(chr(cp))
    return "".join(out)


def fixed_strings():
    yield from (
        "",
        " ",
        "a",
        "A",
        "!",
        "!!",
        "?!",
        "hello!",
        "! hello",
        "hello !",
        "wow!!! yes!",
        "0",
        "2024",
        "3.14",
        "1,000,000th",
    )
    yield from CASES
    yield from ZWJ
    yield from CONTRACTIONS
    yield from SPACES
    for space in SPACES:
        yield f"red{space}fox"
        yield f"{space}red{space}{space} fox{space}"
    yield from (
        BOS, EOS, f"a {EOS} b", f"{BOS}a{EOS}", "<|ENDOFTEXT|>", "<|StartOfText|> x", "x<|endoftext|>y", "<|endoftext", "< |endoftext|>", "|endoftext|>",
        f"  {EOS}  {EOS} end", "<|endoftext|>'s", "'S 'T 'RE 'VE 'M 'LL 'D", "''s", "a's's", "'st", "'sx", "x'llama", "d'd'd", "_a_b__", "a_b-c.d/e\\f",
        "<|startoftext|><|endoftext|>", "<b>bold</b> &amp; &lt;", "\u00e9 e\u0301", "\u0041\u030a \u212b", "\u1112\u1161\u11ab \ud55c", "\u0958 \u0915\u093c", "\u2126 \u03a9",
        "q\u0323\u0307 q\u0307\u0323", "\u0f73\u0f75", "\u0344", "\ufb1d", "\U0001d15e", "\u1e9b\u0323", "\u0300a", "a\u200db", "a\u200cb", "\ufffd", "\ufffe", "\U0010ffff",
        "a\x00b", "\x00", "\x7f", "\ue000", "naïve café résumé", "ﷺ", "ℍ𝔢𝕝𝕝𝕠", "½ ⅓ ² ³", "①②③", "x²+y²=z²", "№ ™ © ®", "£€¥₹₿", "…—–‘’“”", "\\n \\t", "%s %d {0}",
        "https://example.com/a?b=c&d=%20", "user@example.com", "C:\\dir\\file.txt", "日本語のテキスト、句読点。", "中文，标点！", "한국어 텍스트", "Việt Nam", "ไทยแลนด์", "हिन्दी पाठ",
        "שלום עולם", "مرحبا بالعالم ١٢٣", "Ελληνικά", "Українська", "ქართული", "አማርኛ", "ᏣᎳᎩ", "🜁🜂", "𒀀𒀁", "a" * 75, "a b " * 80, "supercalifragilisticexpialidocious" * 3,
    )  # fmt: skip
    yield "a" * 3000
    yield "the quick brown fox jumps over the lazy dog, " * 60
    yield "🎉" * 300
    yield "漢字" * 300
    yield "!" * 400
    yield "e\u0301" * 300
    yield "a" + "\u0301\u0323" * 200
    yield " " * 1000
    yield "x " * 500
    yield "7" * 200
    yield "'s" * 150


def strings():
    """Every test string, without repeats, in a fixed order."""
    rng = random.Random(20240521)
    pool = list(fixed_strings()) + list(prompts(rng, 2200))
    for _ in range(700):
        pool.append(" ".join(rng.choices(EMOJI + ZWJ, k=rng.randint(1, 4))))
        pool.append(
            f"{rng.choice(ADJECTIVES)} {rng.choice(SUBJECTS)}{rng.choice(['', ' '])}{''.join(rng.choices(EMOJI + ZWJ, k=2))}"
        )
    for _ in range(400):
        pool.append(rng.choice(CONTRACTIONS) + rng.choice(["", " ", ",", "!"]) + rng.choice(CONTRACTIONS + SUBJECTS))
        pool.append("".join(rng.choices([*SUBJECTS, *SPACES], k=rng.randint(2, 5))))
        pool.append(
            "".join(rng.choices([*CASES, *SPACES, *ZWJ, *CONTRACTIONS, "!", "'", "<|endoftext|>"], k=rng.randint(2, 3)))
        )
    per_script = {"bmp": 500, "all": 500, "controls": 300, "hangul_jamo": 200}
    for name, ranges in SCRIPTS.items():
        pool += [random_text(rng, ranges) for _ in range(per_script.get(name, 470))]
    pool = list(dict.fromkeys(pool))
    assert len(pool) >= 10000, len(pool)
    return pool


def write_unicode_tables():
    """What the oracle takes for letters, numbers and white space, and its lower-casing, over all code points."""

    def matched(pattern):
        split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=False)
        ranges = []
        for cp in range(0x110000):
            if 0xD800 <= cp < 0xE000 or split.pre_tokenize_str(chr(cp)):
                continue
            if ranges and ranges[-1][1] == cp - 1:
                ranges[-1][1] = cp
            else:
                ranges.append([cp, cp])
        return ranges

    lower = normalizers.Lowercase()
    scalars = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
    changed = [[cp, [ord(c) for c in lower.normalize_str(chr(cp))]] for cp in scalars]
    changed = [[cp, to] for cp, to in changed if to != [cp]]
    tables = {"letter": matched(r"\p{L}"), "number": matched(r"\p{N}"), "space": matched(r"\s"), "lower": changed}
    lines = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in tables.items()]
    (OUT / "unicode.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        write_vocabulary(CLIP, released_clip_merges(sys.argv[1]))
    write_vocabulary(SMALL, train_small())
    tokenizers = {
        (name, pad): load(folder, pad) for name, folder in (("small", SMALL), ("clip", CLIP)) for pad in (EOS, "!")
    }

    def encode(name, pad, text):
        return tokenizers[name, pad](text, truncation=False)["input_ids"]

    def dump(row):
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"

    count = 0
    with (
        open(OUT / "strings.jsonl", "w", encoding="utf-8", newline="\n") as f,
        open(OUT / "pad_bang.jsonl", "w", encoding="utf-8", newline="\n") as bang,
    ):
        for text in strings():
            row = {"text": text, **{name: encode(name, EOS, text) for name in ("small", "clip")}}
            f.write(dump(row))
            other = {"text": text, **{name: encode(name, "!", text) for name in ("small", "clip")}}
            if other != row:
                bang.write(dump(other))
            count += 1
    with open(OUT / "padded.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for text in ("", "a red fox", "hello!", "a b " * 80, "the " * 75, "the " * 76, "!" * 90, f"x {EOS} y"):
            for pad in (EOS, "!"):
                for name in ("small", "clip"):
                    ids = tokenizers[name, pad](text, padding="max_length", max_length=77, truncation=True)["input_ids"]
                    f.write(dump({"vocab": name, "pad": pad, "text": text, "ids": ids}))
    write_unicode_tables()
    print(count, "strings;", {p.name: p.stat().st_size for p in OUT.iterdir()})
    update_manifest(
        "tokenizer",
        "tokenizer.py BPE_GZ",
        {"oracle": f"transformers {versions()['transformers']} CLIPTokenizer", "strings": count},
    )


if __name__ == "__main__":
    main()
