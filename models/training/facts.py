"""What the demo model knows: relations with their phrasings, single questions, and texts made of them.

A relation has pairs (key, value), question phrasings and statement phrasings. {k} is the key, {v} the
value. The first statement is the usual answer. Every statement is a sentence of the language.
"""

import zlib


def _pairs(text):
    return [tuple(x.strip() for x in p.split("=")) for p in text.split(",")]


CAPITALS = _pairs(
    "France=Paris, Italy=Rome, Spain=Madrid, Germany=Berlin, England=London, Portugal=Lisbon, Austria=Vienna, "
    "Greece=Athens, Poland=Warsaw, Norway=Oslo, Sweden=Stockholm, Finland=Helsinki, Denmark=Copenhagen, "
    "Ireland=Dublin, Belgium=Brussels, Hungary=Budapest, Russia=Moscow, Turkey=Ankara, Egypt=Cairo, Kenya=Nairobi, "
    "China=Beijing, Japan=Tokyo, India=New Delhi, Thailand=Bangkok, Canada=Ottawa, Mexico=Mexico City, Cuba=Havana, "
    "Peru=Lima, Chile=Santiago, Argentina=Buenos Aires, Australia=Canberra, the United States=Washington, "
    "the Netherlands=Amsterdam, Iceland=Reykjavik, Scotland=Edinburgh, Ukraine=Kyiv")
CONTINENTS = _pairs(
    "France=Europe, Italy=Europe, Spain=Europe, Germany=Europe, Poland=Europe, Greece=Europe, Norway=Europe, "
    "Sweden=Europe, Austria=Europe, Egypt=Africa, Kenya=Africa, China=Asia, Japan=Asia, India=Asia, Thailand=Asia, "
    "Canada=North America, Mexico=North America, Peru=South America, Chile=South America, Argentina=South America")
SOUNDS = _pairs(
    "cow=moo, dog=woof, cat=meow, duck=quack, sheep=baa, pig=oink, rooster=cock-a-doodle-doo, bee=buzz, mouse=squeak, "
    "lion=roar, frog=ribbit, owl=hoot, snake=hiss, bird=tweet, horse=neigh, hen=cluck, wolf=howl")
YOUNG = _pairs(
    "cat=kitten, dog=puppy, cow=calf, sheep=lamb, horse=foal, pig=piglet, duck=duckling, bear=cub, lion=cub, fox=cub, "
    "deer=fawn, goat=kid, frog=tadpole, hen=chick, goose=gosling, kangaroo=joey, owl=owlet, elephant=calf, swan=cygnet")
COLORS = _pairs(
    "the sky=blue, the sun=yellow, grass=green, snow=white, a banana=yellow, a lemon=yellow, a carrot=orange, "
    "a tomato=red, a strawberry=red, blood=red, coal=black, milk=white, a leaf=green, chocolate=brown, a frog=green, "
    "a fire truck=red, a polar bear=white, the sea=blue, a pumpkin=orange, a flamingo=pink, a pea=green, an elephant=gray, "
    "a crow=black, a cucumber=green, an egg yolk=yellow, a cherry=red")
OPPOSITES = _pairs(
    "hot=cold, big=small, up=down, day=night, fast=slow, happy=sad, old=new, tall=short, wet=dry, light=dark, open=closed, "
    "full=empty, hard=soft, left=right, in=out, good=bad, loud=quiet, clean=dirty, early=late, near=far, black=white, "
    "yes=no, high=low, rich=poor, young=old, strong=weak, start=end, first=last, sweet=sour, true=false, long=short, "
    "heavy=light, win=lose, love=hate, push=pull, inside=outside, thick=thin, summer=winter")
LEGS = _pairs("dog=four, cat=four, spider=eight, bird=two, ant=six, bee=six, horse=four, cow=four, chicken=two, "
              "butterfly=six, octopus=eight, elephant=four, duck=two, mouse=four")
HOMES = _pairs("bird=nest, bee=hive, spider=web, fox=den, rabbit=burrow, pig=sty, horse=stable, dog=kennel, bear=cave, "
               "king=castle, cow=barn, mole=tunnel, beaver=lodge")
DIETS = _pairs("cows=grass, rabbits=carrots, monkeys=bananas, cats=fish, squirrels=nuts, bears=honey and fish, mice=cheese, "
               "pandas=bamboo, horses=hay, lions=meat, birds=seeds, owls=mice, frogs=flies, sheep=grass, sharks=fish")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()
MEANINGS = _pairs(
    "fox=a small wild animal with a long tail, dog=a friendly animal that likes to live with people, "
    "cat=a small animal that likes milk and naps, cow=a big farm animal that gives milk, bird=an animal with wings, "
    "fish=an animal that lives in water, bee=a small insect that makes honey, tree=a tall plant with a trunk and leaves, "
    "flower=a pretty plant that smells good, book=a thing with pages that you can read, "
    "house=a place where people live, school=a place where children learn, river=water that flows to the sea, "
    "lake=a lot of water with land all around it, mountain=a very high hill, island=land with water all around it, "
    "forest=a place with many trees, desert=a dry place with a lot of sand, baker=a person who makes bread, "
    "doctor=a person who helps sick people, teacher=a person who helps others learn, farmer=a person who works on a farm, "
    "bicycle=a thing with two wheels that you can ride, computer=a machine that can store and process data, "
    "clock=a thing that shows the time, umbrella=a thing that keeps you dry in the rain, rainbow=a band of colors in the sky, "
    "cloud=a lot of tiny drops of water in the sky, star=a ball of hot gas far away in space, "
    "penguin=a bird that swims and cannot fly, elephant=a very big animal with a trunk, "
    "dragon=a big animal in stories that can breathe fire, language model=a program that has learned to continue text, "
    "token=a small piece of text, server=a computer that does work for other computers, "
    "router=a program that sends each request to the right place")
TOOLS = _pairs("cut paper=scissors, write=a pencil, dig a hole=a shovel, see in the dark=a lamp, tell the time=a clock, "
               "eat soup=a spoon, open a lock=a key, stay dry in the rain=an umbrella, hit a nail=a hammer, "
               "brush your teeth=a toothbrush, sweep the floor=a broom, catch fish=a net, call a friend=a phone")


def _next(items, wrap=True):
    return [(a, b) for a, b in zip(items, items[1:] + items[:1]) if wrap or b != items[0]]


_DIGITS = [str(i) for i in range(31)]
SUMS = [(f"{a} + {b}", str(a + b)) for a in range(11) for b in range(11)]
DIFFS = [(f"{a} - {b}", str(a - b)) for a in range(11) for b in range(a + 1)]
WORD_SUMS = [(f"{NUMBERS[a]} plus {NUMBERS[b]}", NUMBERS[a + b]) for a in range(6) for b in range(6)]

# name: (pairs, weight, questions, statements). The model sees a relation in proportion to its weight.
RELATIONS = {
    "capital": (CAPITALS, 12, [
        "What is the capital of {k}?", "What is the capital city of {k}?", "Which city is the capital of {k}?",
        "Tell me the capital of {k}.", "Name the capital of {k}.", "Do you know the capital of {k}?", "Capital of {k}?",
        "What city is the capital of {k}?", "The capital of {k} is?", "What's the capital of {k}?"],
        ["The capital of {k} is {v}.", "{v} is the capital of {k}."]),
    "continent": (CONTINENTS, 3, [
        "Where is {k}?", "On which continent is {k}?", "In which part of the world is {k}?", "Where can I find {k}?"],
        ["{k} is in {v}.", "{k} is a country in {v}."]),
    "sound": (SOUNDS, 5, [
        "What sound does a~ {k} make?", "What does a~ {k} say?", "How does a~ {k} sound?", "Which sound does a~ {k} make?",
        "What noise does a~ {k} make?", "What does the {k} say?"], ["A~ {k} says {v}.", "The {k} says {v}."]),
    "young": (YOUNG, 5, [
        "What is a baby {k} called?", "What do you call a baby {k}?", "What is the name for a young {k}?",
        "What do people call a young {k}?", "What's a baby {k}?"], ["A baby {k} is called a~ {v}.", "A young {k} is a~ {v}."]),
    "color": (COLORS, 8, [
        "What color is {k}?", "What colour is {k}?", "Which color is {k}?", "What is the color of {k}?",
        "What's the color of {k}?", "Tell me the color of {k}.", "Do you know what color {k} is?"],
        ["{k} is {v}.", "The color of {k} is {v}."]),
    "opposite": (OPPOSITES, 9, [
        "What is the opposite of {k}?", "What's the opposite of {k}?", "Tell me the opposite of {k}.",
        "Which word is the opposite of {k}?", "Opposite of {k}?", "Give me the opposite of {k}.", "Name the opposite of {k}."],
        ["The opposite of {k} is {v}."]),
    "legs": (LEGS, 3, [
        "How many legs does a~ {k} have?", "How many legs has a~ {k}?", "What number of legs does a~ {k} have?"],
        ["A~ {k} has {v} legs."]),
    "home": (HOMES, 3, ["Where does a~ {k} live?", "Where does a~ {k} sleep?", "What is the home of a~ {k}?"],
             ["A~ {k} lives in a~ {v}.", "The home of a~ {k} is a~ {v}."]),
    "diet": (DIETS, 3, ["What do {k} eat?", "What do {k} like to eat?", "What is the food of {k}?"],
             ["{k} eat {v}.", "{k} like to eat {v}."]),
    "day_after": (_next(DAYS), 3, ["What day comes after {k}?", "Which day comes after {k}?", "Which day is after {k}?",
                                   "What is the day after {k}?"], ["{v} comes after {k}.", "After {k} comes {v}."]),
    "day_before": ([(b, a) for a, b in _next(DAYS)], 2, [
        "What day comes before {k}?", "Which day comes before {k}?", "Which day is before {k}?"],
        ["{v} comes before {k}."]),
    "month_after": (_next(MONTHS), 3, ["What month comes after {k}?", "Which month comes after {k}?",
                                       "Which month is after {k}?"], ["{v} comes after {k}.", "After {k} comes {v}."]),
    "number_after": (_next(_DIGITS, False), 4, [
        "What number comes after {k}?", "Which number comes after {k}?", "What comes after {k}?"],
        ["{v} comes after {k}.", "The number after {k} is {v}."]),
    "sum": (SUMS, 14, ["What is {k}?", "How much is {k}?", "{k} = ?", "What's {k}?", "Calculate {k}.", "{k}?", "{k}",
                       "What does {k} make?", "Add it up: {k}"], ["{k} = {v}."]),
    "difference": (DIFFS, 8, ["What is {k}?", "How much is {k}?", "{k} = ?", "What's {k}?", "Calculate {k}.", "{k}?", "{k}"],
                   ["{k} = {v}."]),
    "word_sum": (WORD_SUMS, 3, ["What is {k}?", "How much is {k}?", "What's {k}?", "What does {k} make?"],
                 ["{k} is {v}."]),
    "meaning": (MEANINGS, 7, [
        "What is a~ {k}?", "What's a~ {k}?", "Tell me what a~ {k} is.", "Do you know what a~ {k} is?", "Explain what a~ {k} is.",
        "What does the word {k} mean?", "Can you explain what a~ {k} is?"], ["A~ {k} is {v}."]),
    "tool": (TOOLS, 3, ["What do you use to {k}?", "What do I need to {k}?", "How can I {k}?", "With what do you {k}?"],
             ["You use {v} to {k}."]),
}

# Single questions: (questions, answers).
SINGLES = [
    (["How many days are in a week?", "How many days does a week have?", "How many days are there in a week?"],
     ["There are seven days in a week."]),
    (["What are the days of the week?", "Name the days of the week.", "Tell me the days of the week.",
      "List the days of the week."],
     ["The days of the week are " + ", ".join(DAYS[:-1]) + " and Sunday."]),
    (["How many months are in a year?", "How many months does a year have?"], ["There are twelve months in a year."]),
    (["What are the months of the year?", "Name the months.", "List the months of the year."],
     ["The months are " + ", ".join(MONTHS[:-1]) + " and December."]),
    (["What are the four seasons?", "Name the seasons.", "What are the seasons of the year?", "How many seasons are there?"],
     ["The four seasons are spring, summer, autumn and winter."]),
    (["How many hours are in a day?", "How many hours does a day have?"], ["There are 24 hours in a day."]),
    (["How many minutes are in an hour?", "How many minutes does an hour have?"], ["There are 60 minutes in an hour."]),
    (["Count to five.", "Can you count to five?", "Count from one to five.", "Count to 5.", "Count from 1 to 5."],
     ["One, two, three, four, five."]),
    (["Count to ten.", "Can you count to ten?", "Count from one to ten.", "Count to 10.", "Count from 1 to 10.",
      "Please count up to ten."], ["One, two, three, four, five, six, seven, eight, nine, ten."]),
    (["Count down from five.", "Count backwards from five.", "Count down from 5."], ["Five, four, three, two, one."]),
    (["Say the alphabet.", "Tell me the alphabet.", "What is the alphabet?", "What are the letters of the alphabet?"],
     ["A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z."]),
    (["What are the colors of the rainbow?", "Name the colors of the rainbow.", "Which colors are in a rainbow?"],
     ["The colors of the rainbow are red, orange, yellow, green, blue and purple."]),
    (["What is water?", "What's water?", "Tell me about water."], ["Water is a clear liquid that all living things need."]),
    (["What is the sun?", "What's the sun?", "Tell me about the sun."], ["The sun is a big star that gives us light and warmth."]),
    (["What is the moon?", "What's the moon?", "Tell me about the moon."], ["The moon is a ball of rock that goes around the earth."]),
    (["What is the earth?", "Tell me about the earth.", "What is earth?"], ["The earth is the planet on which we live."]),
    (["What is rain?", "Tell me about rain.", "What's rain?"], ["Rain is water that falls from the clouds."]),
    (["What is snow?", "What's snow?"], ["Snow is frozen water that falls from the clouds."]),
    (["What is ice?", "What's ice?"], ["Ice is frozen water."]),
    (["What is honey?", "Who makes honey?", "Where does honey come from?"], ["Honey is made by bees."]),
    (["Where does milk come from?", "What gives milk?", "Which animal gives milk?"], ["Milk comes from cows."]),
    (["What is the biggest animal?", "Which animal is the biggest?", "What is the largest animal?"],
     ["The blue whale is the biggest animal."]),
    (["What is the fastest land animal?", "Which animal runs the fastest?"], ["The cheetah is the fastest land animal."]),
    (["What is the tallest animal?", "Which animal is the tallest?"], ["The giraffe is the tallest animal."]),
    (["When does the sun rise?", "When do people wake up?"], ["The sun rises in the morning."]),
    (["Where does the sun rise?", "Where does the sun come up?"], ["The sun rises in the east."]),
    (["Where does the sun set?", "Where does the sun go down?"], ["The sun sets in the west."]),
    (["What is Baton?", "What's Baton?", "Tell me about Baton.", "What does Baton do?", "Explain Baton."],
     ["Baton is a system that serves language models. It does prefill and decode on separate workers."]),
    (["What is prefill?", "What's prefill?", "Explain prefill.", "What does a prefill worker do?"],
     ["Prefill is the first step. It reads the whole prompt and fills the KV cache."]),
    (["What is decode?", "What's decode?", "Explain decode.", "What does a decode worker do?"],
     ["Decode is the second step. It writes the answer one token at a time."]),
    (["What is a KV cache?", "What's a KV cache?", "What is the KV cache?", "Explain the KV cache."],
     ["A KV cache holds the keys and values of all tokens that were read so far."]),
    (["Why is the sky blue?", "Tell me why the sky is blue."], ["The sky is blue because the air scatters blue light the most."]),
    (["Why do birds fly south?", "Why do some birds fly away in autumn?"], ["Some birds fly south because the winter is cold."]),
    (["Why do we sleep?", "Why do people sleep?"], ["We sleep because our bodies need rest."]),
    (["How do plants grow?", "What does a plant need to grow?", "What do plants need?"],
     ["Plants need water, light and air to grow."]),
    (["How many wheels does a car have?", "How many wheels has a car?"], ["A car has four wheels."]),
    (["How many fingers do I have?", "How many fingers does a hand have?"], ["A hand has five fingers."]),
]


def fix(text):
    from grammar import capitalise, fix_articles
    return capitalise(fix_articles(text))


def reserved(question, key):
    """Phrasings of a fact that are kept out of training and used to measure chat accuracy (1 in 12)."""
    return zlib.crc32(f"{question}|{key}".encode()) % 12 == 0


def statement(relation, k, v, which=0):
    return fix(RELATIONS[relation][3][which].format(k=k, v=v))


def ask(rng, heldout=False):
    """-> (question, answer, value that a right answer must contain)."""
    if rng.random() < 0.14:
        questions, answers = rng.choice(SINGLES)
        answer = rng.choice(answers)
        return rng.choice(questions), answer, answer
    names = list(RELATIONS)
    while True:
        name = rng.choices(names, [RELATIONS[n][1] for n in names])[0]
        pairs, _, questions, statements = RELATIONS[name]
        k, v = rng.choice(pairs)
        q = rng.choice(questions)
        if reserved(q, k) == heldout:
            which = 0 if rng.random() < 0.9 else rng.randrange(len(statements))
            return fix(q.format(k=k)), statement(name, k, v, which), v


def all_statements():
    for name, (pairs, _, _, statements) in RELATIONS.items():
        for k, v in pairs:
            for i in range(len(statements)):
                yield statement(name, k, v, i)
    for _, answers in SINGLES:
        yield from answers


def all_questions():
    for pairs, _, questions, _ in RELATIONS.values():
        for k, _ in pairs:
            yield from (fix(q.format(k=k)) for q in questions)
    for questions, _ in SINGLES:
        yield from questions


def paragraph(rng):
    """A short text of facts: about one relation, about one animal, or a mix."""
    kind = rng.random()
    if kind < 0.4:
        name = rng.choice(list(RELATIONS))
        pairs = RELATIONS[name][0]
        which = 0 if rng.random() < 0.8 else rng.randrange(len(RELATIONS[name][3]))
        picked = rng.sample(pairs, min(len(pairs), rng.randint(1, 6)))
        return " ".join(statement(name, k, v, which) for k, v in picked)
    if kind < 0.65:
        animal = rng.choice([k for k, _ in SOUNDS + YOUNG + MEANINGS[:6]])
        lines = [statement(n, animal, dict(RELATIONS[n][0])[animal]) for n in ("meaning", "home", "sound", "legs", "young")
                 if animal in dict(RELATIONS[n][0])]
        return " ".join(lines)
    if kind < 0.8:
        country = rng.choice(CONTINENTS)[0]
        return statement("continent", country, dict(CONTINENTS)[country], 1) + " " + \
            statement("capital", country, dict(CAPITALS)[country])
    return " ".join(ask(rng)[1] for _ in range(rng.randint(1, 4)))
