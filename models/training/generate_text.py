#!/usr/bin/env python3
"""Writes the training text of the demo models: seeded, from an explicit grammar, standard library only.

    generate_text.py --seed 1 --documents 1000 > text.jsonl     one {"kind", "text"} object per line
    generate_text.py --check < sentences.txt                    judge each line by the grammar

`Language().accepts(sentence)` says whether a sentence belongs to the language; `Language().document(rng)`
writes a document. The same seed gives the same text on every machine.
"""

import argparse
import json
import random
import re
import sys

import chat
import facts
from grammar import split_sentences, weighted
from lexicon import CHILD_NAMES, CREATURE_HOME
from stories import Stories

_FORMS = [("Q: {q}\nA: {a}", "\n\n"), ("Question: {q}\nAnswer: {a}", "\n\n"), ("{q} {a}", "\n"), ("{q}\n{a}", "\n\n")]
_PREFIX = re.compile(r"(Q|A|Question|Answer): ")
_HELLO = ["Hello! My name is {n}.", "Hello, my name is {n}.", "Hi! I am {n}.", "My name is {n}."]
_ABOUT_ME = [["I am {age} years old.", "I am a {child}, and I am {age} years old."],
             ["I live {home}.", "I live {home} with my family."],
             ["I like to {hobby}.", "Every day, I like to {hobby}."],
             ["I have a {color} {toy}.", "My favorite color is {color}.", "I have a~ {creature} named {pet}."],
             ["My best friend is {f}.", "I have a friend named {f}.", "{f} and I are good friends."],
             ["Today we played {game}.", "Today we went to the {place}.", "Tomorrow we will go to the {place}."],
             ["What is your name?", "I hope to see you soon.", "It is nice to meet you.", "Have a nice day!"]]
_QUICK = ["The quick brown fox jumps over the lazy dog.", "The quick brown fox jumped over the lazy dog.",
          "The quick brown {creature} jumped over the lazy {creature2}."]
_AFTER_QUICK = ["The dog opened one eye and went back to sleep.", "The fox laughed and ran into the forest.",
                "\"Wait for me!\" called the dog.", "Then the dog woke up, and they played {game} near the {place}.",
                "In the end, they became good friends.", "The fox was hungry and looked for {food}.",
                "The dog was too tired to run.", "After that, the fox went home.", "The two animals lived {home}."]
_SIMPLE = ["The {creature} lives {home}.", "The {creature} has a {color} {toy}.", "The {creature} likes to {hobby}.",
           "The {toy} is {color}.", "Today, the {creature} is {happy}.", "The {place} is very quiet today.",
           "The {creature} went to the {place}.", "There are {number} {food} in the basket.", "{n} has a {color} {toy}.",
           "{n} likes {food}.", "{n} went to the {place}.", "{n} and {f} played {game}.", "It is a beautiful day, and {n} is {happy}."]


def _slots(template):
    """Speaker names use the words of N and F without tying a gender to the rest."""
    return template.replace("{n}", "{who}").replace("{f}", "{who2}")


class Language:
    """The whole language: writes documents, recognises sentences."""

    def __init__(self):
        self.stories = Stories()
        lexicon = self.stories.grammar.lexicon
        lexicon["who"] = CHILD_NAMES[0] + CHILD_NAMES[1]
        lexicon["pet"] = sorted({*lexicon["N"][0], *lexicon["N"][1]} - set(lexicon["who"]))
        lexicon["age"] = "five six seven eight nine ten".split()
        lexicon["child"] = ["boy", "girl"]
        self.chat = chat.Chat(self.stories)
        for template in [t for group in (_HELLO, *_ABOUT_ME, _QUICK, _AFTER_QUICK, _SIMPLE) for t in group]:
            self.stories.grammar.add_templates(_slots(template))
        for question in facts.all_questions():
            self.stories.grammar.add_literal(question)

    def accepts(self, sentence):
        """Whether one sentence belongs to the language (a fact must also be right)."""
        return self.stories.grammar.accepts(_PREFIX.sub("", sentence))

    def _say(self, rng, groups, ctx):
        return " ".join(self.stories.grammar.expand(_slots(rng.choice(g)), ctx, rng) for g in groups)

    def about_me(self, rng):
        name = rng.choice(CHILD_NAMES[0] + CHILD_NAMES[1])
        ctx = {"who": name, "child": "boy" if name in CHILD_NAMES[0] else "girl"}
        return self._say(rng, [_HELLO] + [g for g in _ABOUT_ME if rng.random() < 0.75], ctx)

    def quick_fox(self, rng):
        fox = {"creature": "fox", "creature2": "dog"} if rng.random() < 0.5 else {}
        rest = rng.sample(_AFTER_QUICK, rng.randint(0, 3))
        return self._say(rng, [_QUICK] + [[r] for r in rest], fox)

    def simple(self, rng):
        """Unconnected plain sentences about a few people and animals."""
        picked = rng.sample(_SIMPLE, rng.randint(2, 6))
        return self._say(rng, [[t] for t in picked], {})

    def questions(self, rng):
        pairs = [facts.ask(rng) for _ in range(rng.randint(1, 5))]
        # A question on the line of its answer needs an end mark.
        form, joint = rng.choice(_FORMS if all(q[-1] in ".?" for q, _, _ in pairs) else _FORMS[:2])
        return joint.join(form.format(q=q, a=a) for q, a, _ in pairs)

    def document(self, rng):
        """-> (kind, text); kind "chat" is ChatML, everything else plain text."""
        kind = weighted(rng, [("story", 34), ("long_story", 2), ("chat", 42), ("facts", 9), ("questions", 5),
                              ("about_me", 3), ("quick_fox", 2), ("simple", 3)])
        text = {"story": lambda: self.stories.story(rng),
                "long_story": lambda: self.stories.story(rng, episodes=rng.randint(2, 13)),
                "chat": lambda: chat.render(self.chat.conversation(rng)),
                "facts": lambda: facts.paragraph(rng),
                "questions": lambda: self.questions(rng),
                "about_me": lambda: self.about_me(rng),
                "quick_fox": lambda: self.quick_fox(rng),
                "simple": lambda: self.simple(rng)}[kind]()
        return kind, text


def documents(seed, count):
    language, rng = Language(), random.Random(seed)
    for _ in range(count):
        yield language.document(rng)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--check", action="store_true", help="read text on stdin and judge its sentences")
    args = parser.parse_args()
    if args.check:
        language = Language()
        sentences = split_sentences(sys.stdin.read())
        wrong = [s for s in sentences if not language.accepts(s)]
        for s in wrong:
            print("not in the language:", s)
        print(f"{len(sentences) - len(wrong)} of {len(sentences)} sentences are well-formed")
        return 1 if wrong else 0
    for kind, text in documents(args.seed, args.documents):
        print(json.dumps({"kind": kind, "text": text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
