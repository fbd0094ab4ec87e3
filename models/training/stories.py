"""Stories: reads story_grammar.txt and chains frames and plots into documents."""

import pathlib
import re

from grammar import Grammar, base
from lexicon import (CHILD_NAMES, CREATURE_GENDER, CREATURE_HOME, CREATURE_NAMES, CREATURES, CHILD_HOMES,
                     LEXICON)

_FILE = pathlib.Path(__file__).with_name("story_grammar.txt")
# Bindings that outlive one episode of a chained story.
_LASTING = {"N", "he", "his", "him", "himself", "boy", "F", "fhe", "fhis", "fhim", "fboy", "kin", "creature",
            "creature2", "kidadj", "kidadj2", "home", "hobby", "hobby2"}


def _load(path):
    """-> {block name: [(optional, [alternative, ...]), ...]}"""
    blocks = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if m := re.fullmatch(r"(plot|frame) (\w+)", line):
            steps = blocks[m.group(2)] = []
            continue
        optional = line.startswith("?")
        steps.append((optional, [a.strip().removeprefix("?").strip() for a in line.split(" / ")]))
    return blocks


class Stories:
    """Writes stories and recognises their sentences."""

    def __init__(self):
        self.grammar = Grammar(LEXICON)
        self.blocks = _load(_FILE)
        self.plots = [k for k in self.blocks if not k.startswith(("open_", "friend", "end"))]
        for steps in self.blocks.values():
            for _, alternatives in steps:
                for alternative in alternatives:
                    self.grammar.add_templates(alternative)
                    if "{When}" in alternative:
                        self.grammar.add_templates(alternative.replace("{When}", "{Later}"))

    def _write(self, block, ctx, rng, when="{When}"):
        out = []
        for optional, alternatives in self.blocks[block]:
            if not optional or rng.random() < 0.5:
                out.append(self.grammar.expand(rng.choice(alternatives).replace("{When}", when), ctx, rng))
        return out

    def _hero(self, rng, ctx, creature=None, name=None, gender=None):
        """Choose who the story is about; returns the opening frame."""
        if creature is None and (name in CHILD_NAMES[0] + CHILD_NAMES[1] or rng.random() < 0.45):
            name = name or rng.choice(CHILD_NAMES[rng.randrange(2) if gender is None else gender])
            self.grammar.bind_name(ctx, "N", name)
            ctx["home"] = rng.choice(CHILD_HOMES)
            return "open_child" if rng.random() < 0.8 else "open_child_home"
        ctx["creature"] = creature or rng.choice(rng.choice(list(CREATURES.values())))
        if rng.random() < 0.7:
            ctx["home"] = CREATURE_HOME[ctx["creature"]]
        gender = CREATURE_GENDER.get(ctx["creature"], rng.randrange(2))
        self.grammar.bind_name(ctx, "N", name or rng.choice(CREATURE_NAMES[gender]))
        return "open_creature" if creature or rng.random() < 0.75 else "open_plain"

    def story(self, rng, episodes=1, **hero):
        """One story; `hero`: creature=, name= and gender= (0 male, 1 female) fix who it is about."""
        ctx = {}
        opening = self._hero(rng, ctx, **hero)
        out = self._write(opening, ctx, rng)
        plots = rng.sample(self.plots, min(episodes, len(self.plots)))
        if "new_friend" in plots:  # It introduces the friend itself, so it comes first.
            plots.remove("new_friend")
            plots.insert(0, "new_friend")
        self.grammar.bind_person(ctx, rng, "F", avoid=(ctx["N"],))
        if plots[0] != "new_friend":
            if ctx["F"] in CREATURE_NAMES[0] + CREATURE_NAMES[1]:
                kinds = [c for c in CREATURE_HOME if c != ctx.get("creature") and
                         CREATURE_GENDER.get(c, ctx["fboy"] == "girl") == (ctx["fboy"] == "girl")]
                ctx["creature2"] = rng.choice(kinds)
                out += self._write("friend_creature", ctx, rng)
            else:
                out += self._write("friend", ctx, rng)
        paragraphs = [" ".join(out)]
        for i, plot in enumerate(plots):
            for slot in [s for s in ctx if s not in _LASTING]:
                del ctx[slot]
            paragraphs.append(" ".join(self._write(plot, ctx, rng, "{When}" if i == 0 else "{Later}")))
        if rng.random() < 0.7:
            paragraphs[-1] += " " + " ".join(self._write("end", ctx, rng))
        joint = "\n\n" if episodes > 1 or rng.random() < 0.25 else " "
        return joint.join(paragraphs)

    def consistent(self, text):
        """Whether a story's sentences all parse and agree on the hero, the friend and their words.

        Greedy: each sentence keeps the first reading that agrees with what is already bound. Words that
        belong to an episode are forgotten at each new episode (a sentence that starts with {When}/{Later}).
        """
        from grammar import split_sentences
        bound = {}
        for sentence in split_sentences(text):
            readings = self.grammar.parses(sentence)
            if not readings:
                return False
            if any(base(k) in ("When", "Later") for r in readings for k in r):
                bound = {k: v for k, v in bound.items() if k in _LASTING}
            for r in readings:
                if all(bound.get(k, v) == v for k, v in r.items()):
                    bound.update(r)
                    break
            else:
                return False
        return True
