"""Template grammar: one set of rules that both writes and recognises sentences.

A template is a sentence (or several) with three kinds of markup:

  {slot}     a word of the class `slot` without its trailing digits; the same slot has the same value
             everywhere in a sentence (and, when generating, everywhere in one story episode)
  [a|b|]     one of the alternatives (no nesting; slots are allowed inside)
  a~         the indefinite article, "a" or "an" by the sound of the next word

Slots listed in GENDERED agree with the gender of the person they stand for, so `{N} lost {his} hat`
never yields "Lily lost his hat", and the recogniser refuses that sentence as well.

Not thread-safe while rules are being added; read-only use afterwards is safe.
"""

import itertools
import random
import re

# person -> {slot: (male value, female value)}; a list value is a class of words.
GENDERED = {
    "N": {"he": ("he", "she"), "his": ("his", "her"), "him": ("him", "her"), "boy": ("boy", "girl"),
          "himself": ("himself", "herself")},
    "F": {"fhe": ("he", "she"), "fhis": ("his", "her"), "fhim": ("him", "her"), "fboy": ("boy", "girl")},
}
_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\]]*)\]")
# Words that start with a vowel letter but a consonant sound, or the other way round.
_ODD_AN = {"hour": "an", "honest": "an", "unicorn": "a", "useful": "a", "one": "a", "European": "a", "used": "a"}


def article(word):
    """The indefinite article that `word` takes."""
    first = re.match(r"\w+", word)
    if first and first.group(0) in _ODD_AN:
        return _ODD_AN[first.group(0)]
    return "an" if word[:1].lower() in "aeiou" else "a"


def fix_articles(text):
    return re.sub(r"\b([Aa])~ (\w+)",
                  lambda m: (article(m.group(2)) if m.group(1) == "a" else article(m.group(2)).capitalize())
                  + " " + m.group(2), text)


_PRONOUNS = {slot for slots in GENDERED.values() for slot in slots}


def normal(slot):
    """{He} and {His} are {he} and {his} at the start of a sentence."""
    return slot.lower() if slot.lower() in _PRONOUNS else slot


def base(slot):
    return slot.rstrip("0123456789")


def capitalise(sentence):
    """Upper-case the first letter, also behind an opening quotation mark."""
    i = 1 if sentence[:1] == '"' else 0
    return sentence[:i] + sentence[i:i + 1].upper() + sentence[i + 1:]


def split_sentences(text):
    """Cut text at sentence ends; a quotation belongs to the sentence around it. Newlines also cut."""
    out = []
    for line in text.split("\n"):
        start, in_quote, i = 0, False, 0
        while i < len(line):
            if line[i] == '"':
                in_quote = not in_quote
            ended = line[i] in ".!?" or (line[i] == '"' and not in_quote and i and line[i - 1] in ".!?")
            follows = line[i + 1:i + 2] == " " and re.match(r'[A-Z0-9"]', line[i + 2:i + 3] or "a")
            if ended and follows and not in_quote:
                out.append(line[start:i + 1].strip())
                start = i + 2
            i += 1
        out.append(line[start:].strip())
    return [s for s in out if s]


class Grammar:
    """Word classes plus templates. `lexicon`: slot -> list of words; "N"/"F" -> (male names, female names)."""

    def __init__(self, lexicon):
        self.lexicon = lexicon
        self._templates = {}   # sentence template -> None, in insertion order
        self._literals = set()
        self._compiled = None

    # -- writing -------------------------------------------------------------------------------------------
    def bind_person(self, ctx, rng, person, avoid=()):
        """Put a name and its agreeing pronouns for `person` ("N" or "F") into ctx."""
        gender = rng.randrange(2)
        names = [n for n in self.lexicon[person][gender] if n not in avoid]
        self.bind_name(ctx, person, rng.choice(names))

    def bind_name(self, ctx, person, name):
        gender = 0 if name in self.lexicon[person][0] else 1
        ctx[person] = name
        for slot, values in GENDERED[person].items():
            ctx[slot] = values[gender]

    def expand(self, template, ctx, rng):
        """Write `template`: unbound slots get a random word and stay bound in ctx."""
        def fill(match):
            slot = normal(match.group(1))
            if slot not in ctx:
                taken = {v for k, v in ctx.items() if base(k) == base(slot)}
                free = [w for w in self.lexicon[base(slot)] if w not in taken]
                ctx[slot] = rng.choice(free or self.lexicon[base(slot)])
            return ctx[slot]

        out = []
        for sentence in split_template(template):
            sentence = _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), sentence)
            out.append(capitalise(fix_articles(_SLOT.sub(fill, sentence))))
        return " ".join(out)

    # -- recognising ---------------------------------------------------------------------------------------
    def add_templates(self, template):
        """Let the recogniser accept each sentence of `template`."""
        for sentence in split_template(template):
            self._templates[sentence] = None
        self._compiled = None

    def add_literal(self, text):
        """Let the recogniser accept exactly these sentences."""
        self._literals.update(split_sentences(text))

    def _regex(self, template, genders):
        seen = set()

        def slot_regex(slot):
            slot = normal(slot)
            if slot in seen:
                return f"(?P={slot})"
            seen.add(slot)
            for person, slots in GENDERED.items():
                if slot in slots:
                    return f"(?P<{slot}>{slots[slot][genders[person]]})"
                if slot == person:
                    return f"(?P<{slot}>" + "|".join(self.lexicon[person][genders[person]]) + ")"
            words = sorted(self.lexicon[base(slot)], key=len, reverse=True)
            return f"(?P<{slot}>" + "|".join(re.escape(w) for w in words) + ")"

        out, i = [], 0
        for m in re.finditer(r"\{(\w+)\}|\[([^\]]*)\]", template):
            out.append(re.escape(template[i:m.start()]))
            if m.group(1):
                out.append(slot_regex(m.group(1)))
            else:
                options = []
                for option in m.group(2).split("|"):
                    parts = _SLOT.split(option)
                    options.append("".join(re.escape(p) if k % 2 == 0 else slot_regex(p)
                                           for k, p in enumerate(parts)))
                out.append("(?:" + "|".join(options) + ")")
            i = m.end()
        out.append(re.escape(template[i:]))
        pattern = "".join(out)
        return re.compile(re.sub(r"\b([Aa])\\?~\\ ", lambda m: f"(?P<art{m.start()}>{m.group(1)}n?)\\\\ ".replace(
            "\\\\", "\\"), pattern))

    def _compile(self):
        self._compiled = []
        for template in self._templates:
            slots = {normal(s) for s in _SLOT.findall(template)}
            needs = [p for p in GENDERED if slots & ({p} | set(GENDERED[p]))]
            for combo in itertools.product((0, 1), repeat=len(needs)):
                regex = self._regex(template, dict(zip(needs, combo)))
                # A literal head makes most mismatches one string comparison.
                head = re.match(r'[^\[{~]*', template).group(0)
                head = head[:-1] if template[len(head):len(head) + 1] == "~" else head
                self._compiled.append((head[1:], regex))

    def parses(self, sentence):
        """All ways to read `sentence`: a list of slot -> word dicts; empty when it is not in the language."""
        if sentence in self._literals:
            return [{}]
        if self._compiled is None:
            self._compile()
        if sentence != capitalise(sentence):
            return []
        found = []
        lowered = sentence[:1].lower() + sentence[1:]
        for head, regex in self._compiled:
            if not sentence.startswith(head, 1):
                continue
            for form in {sentence, lowered}:
                m = regex.fullmatch(form)
                if m and all(form[m.end(k):].lstrip() and m.group(k).lower() == article(form[m.end(k):].lstrip())
                             for k in m.groupdict() if k.startswith("art")):
                    found.append({k: v for k, v in m.groupdict().items() if v and not k.startswith("art")})
        return found

    def accepts(self, sentence):
        return bool(self.parses(sentence))


def split_template(template):
    """Split a template at sentence ends; a slot counts as upper case unless it is a lower-case pronoun."""
    masked = _SLOT.sub(lambda m: ("x" if m.group(1) in _PRONOUNS else "X") * len(m.group(0)), template)
    masked = re.sub(r"\[[^\]]*\]", lambda m: "X" * len(m.group(0)), masked)
    out, pos = [], 0
    for s in split_sentences(masked):
        at = masked.index(s, pos)
        out.append(template[at:at + len(s)])
        pos = at + len(s)
    return out


def weighted(rng: random.Random, pairs):
    """One of the (value, weight) pairs."""
    values, weights = zip(*pairs)
    return rng.choices(values, weights)[0]
