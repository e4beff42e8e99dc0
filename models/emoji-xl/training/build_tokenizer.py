"""Trains the CLIP-format byte-level BPE of emoji-xl and writes tokenizer/ and tokenizer_2/.

  python build_tokenizer.py --captions captions.tsv --words american-english-small --out MODEL_DIR

The format is that of CLIP: lower-cased text, words split by CLIP's pattern, bytes mapped to
printable characters, `</w>` at the end of a word. Vocabulary order: 256 byte symbols, the same with
`</w>`, merges in order, `<|startoftext|>`, `<|endoftext|>`. Every byte has a symbol, so no input is
unknown.
"""

import argparse
import collections
import json
import pathlib

import regex

import captions

VOCAB_SIZE = 3072
MAX_LENGTH = 77
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORD_PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE)


def bytes_to_unicode():
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    chars = printable[:]
    extra = 0
    for b in range(256):
        if b not in printable:
            printable.append(b)
            chars.append(256 + extra)
            extra += 1
    return dict(zip(printable, map(chr, chars)))


def count_words(lines, weight, counts):
    for line in lines:
        for word in WORD_PATTERN.findall(" ".join(line.lower().split())):
            counts[word] += weight


def train_merges(counts, wanted):
    """Greedy BPE: repeatedly merges the most frequent adjacent pair (ties: smallest pair)."""
    table = bytes_to_unicode()
    words, freqs = [], []
    for word, freq in counts.items():
        symbols = [table[b] for b in word.encode("utf-8")]
        symbols[-1] += "</w>"
        words.append(symbols)
        freqs.append(freq)
    pair_freq = collections.Counter()
    where = collections.defaultdict(set)
    for i, symbols in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            pair_freq[pair] += freqs[i]
            where[pair].add(i)
    merges = []
    while len(merges) < wanted:
        best = min(pair_freq, key=lambda p: (-pair_freq[p], p))
        if pair_freq[best] < 2:
            break
        merges.append(best)
        for i in list(where[best]):
            old = words[i]
            for pair in zip(old, old[1:]):
                pair_freq[pair] -= freqs[i]
                where[pair].discard(i)
            new, k = [], 0
            while k < len(old):
                if k + 1 < len(old) and (old[k], old[k + 1]) == best:
                    new.append(old[k] + old[k + 1])
                    k += 2
                else:
                    new.append(old[k])
                    k += 1
            words[i] = new
            for pair in zip(new, new[1:]):
                pair_freq[pair] += freqs[i]
                where[pair].add(i)
        del pair_freq[best]
    return merges


def write_tokenizer(folder, vocab, merges, pad):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    token = lambda t: {"content": t, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": token(BOS), "eos_token": token(EOS), "pad_token": pad, "unk_token": token(EOS)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    added = {str(vocab[t]): {**token(t), "special": True} for t in {pad, BOS, EOS}}
    config = {
        "add_prefix_space": False, "added_tokens_decoder": dict(sorted(added.items(), key=lambda kv: int(kv[0]))),
        "bos_token": BOS, "clean_up_tokenization_spaces": True, "do_lower_case": True, "eos_token": EOS,
        "errors": "replace", "model_max_length": MAX_LENGTH, "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer", "unk_token": EOS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--captions", required=True)
    ap.add_argument("--words", required=True, help="word list, one word a line (SCOWL, Debian wamerican-small)")
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    counts = collections.Counter()
    count_words(captions.corpus_lines(captions.load_records(args.captions), 4), 5, counts)
    with open(args.words, encoding="utf-8") as f:
        count_words((line.strip() for line in f), 4, counts)
    merges = train_merges(counts, VOCAB_SIZE - 2 * 256 - 2)
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [BOS, EOS]
    vocab = {t: i for i, t in enumerate(tokens)}
    assert len(vocab) == VOCAB_SIZE, len(vocab)
    out = pathlib.Path(args.out)
    write_tokenizer(out / "tokenizer", vocab, merges, EOS)
    write_tokenizer(out / "tokenizer_2", vocab, merges, "!")


if __name__ == "__main__":
    main()
