"""Word classes of the story grammar (see grammar.py for how slots use them)."""


def _w(text):
    return [w.strip() for w in text.split(",")]


def _clauses(text):
    return [w + "," for w in _w(text)]


# Story heroes that are not children, with where they live.
CREATURES = {
    "in the forest": _w("fox, rabbit, bear, squirrel, hedgehog, deer, wolf, owl, raccoon"),
    "on a farm": _w("pig, lamb, pony, goat, donkey, cow, horse, sheep, hen, rooster"),
    "by the river": _w("duck, frog, otter, beaver, turtle, goose, swan"),
    "in a cozy house": _w("cat, dog, kitten, puppy, mouse, hamster, parrot"),
    "in the jungle": _w("elephant, lion, monkey, tiger, snake, giraffe, zebra, crocodile"),
    "near the sea": _w("crab, whale, dolphin, penguin, seal, octopus, fish, shark"),
    "in a sunny meadow": _w("bee, butterfly, snail, ant, ladybug, bird, mole, spider, sparrow"),
    "in an old castle": _w("dragon, knight, wizard, prince, princess, king, queen, ghost, witch"),
    "in a busy town": _w("robot, baker, farmer, pirate, clown, tailor, painter, fisherman"),
}
CREATURE_HOME = {c: home for home, cs in CREATURES.items() for c in cs}
# Creatures whose word already fixes a gender.
CREATURE_GENDER = {"cow": 1, "hen": 1, "rooster": 0, "wizard": 0, "prince": 0, "princess": 1, "king": 0, "queen": 1,
                   "fisherman": 0, "knight": 0, "witch": 1}

CHILD_NAMES = (_w("Tom, Ben, Max, Sam, Leo, Jack, Finn, Oscar, Henry, Noah, Theo, Hugo, Adam, Peter, David, Paul"),
               _w("Lily, Mia, Anna, Lucy, Emma, Zoe, Ruby, Nora, Ella, Rosa, Clara, Ivy, Sara, Alice, Kate, Jane"))
CREATURE_NAMES = (_w("Rusty, Bruno, Pip, Oliver, Biscuit, Milo, Buster, Teddy, Felix, Otto, Rocky, Charlie"),
                  _w("Daisy, Luna, Hazel, Poppy, Willow, Bella, Pearl, Rosie, Honey, Olive, Coco, Mabel"))

CHILD_HOMES = _w("in a small village, in a little house, in a big city, near the park, by the lake, next to a bakery, "
                 "on a quiet street, at the edge of a forest, on a farm, by the river, near the sea, in a busy town")

LEXICON = {
    "N": tuple(a + b for a, b in zip(CHILD_NAMES, CREATURE_NAMES)),
    "F": tuple(a + b for a, b in zip(CHILD_NAMES, CREATURE_NAMES)),
    "creature": sorted(CREATURE_HOME),
    "home": sorted({*CREATURES, *CHILD_HOMES}),
    "kidadj": _w("little, small, young, kind, brave, happy, clever, shy, cheerful, curious, funny, friendly, gentle, "
                 "quiet, playful, busy"),
    "When": _clauses("One day, One morning, One sunny day, One afternoon, One warm morning, One bright day, One weekend"),
    "Later": _clauses("The next day, A few days later, The next morning, A week later, Another day, One rainy morning, "
                "Some time later, The week after that"),
    "kin": _w("mom, dad, grandma, grandpa, mother, father, aunt, uncle"),
    "toy": _w("ball, kite, doll, drum, teddy bear, toy car, toy boat, toy train, whistle, puzzle, paper plane, hat, "
              "scarf, balloon, bell, book, box of crayons, bucket, umbrella, basket"),
    "color": _w("red, blue, green, yellow, orange, purple, pink, brown, black, white, golden, silver"),
    "adj": _w("new, old, shiny, soft, pretty, tiny, lovely, round, striped, special"),
    "place": _w("park, garden, forest, meadow, village, farm, river, lake, hill, beach, barn, school, market, "
                "playground, pond, bridge, library, bakery"),
    "hide": _w("under the bed, behind the door, under a big tree, behind a bush, in the tall grass, under a bench, "
               "behind a rock, in an old box, under the table, next to the well"),
    "food": _w("apples, berries, cookies, sandwiches, carrots, cherries, pancakes, nuts, plums, pears, grapes, muffins"),
    "fruit": _w("apples, berries, cherries, plums, pears, peaches"),
    "dish": _w("apple pie, carrot cake, berry cake, vegetable soup, banana bread, tomato soup, cherry pie"),
    "thing": _w("flour, milk, sugar, butter, salt, honey, eggs"),
    "baby": _w("baby bird, puppy, kitten, baby rabbit, duckling, lamb, baby owl, chick, baby squirrel, baby turtle"),
    "skill": _w("swim, ride a bike, whistle, skate, read, dance, play the drum, climb a tree, juggle, sing, paint, "
                "jump rope, play the flute, fly a kite"),
    "build": _w("sand castle, tree house, snow fort, tall tower, little boat, wooden bridge, doll house, bird house"),
    "stuff": _w("sticks, stones, boxes, planks, shells, blocks, leaves"),
    "noise": _w("loud bang, soft scratch, strange squeak, long howl, funny rattle, low growl"),
    "scare": _w("an old branch, the wind, a tiny mouse, a sleepy owl, a loose window, a hungry cat, a falling box"),
    "plant": _w("sunflower, pumpkin, apple tree, rose, bean plant, strawberry plant, tulip, carrot plant"),
    "found": _w("silver coin, golden ring, small key, red hat, blue mitten, pocket watch, leather bag, pair of glasses, "
                "letter"),
    "owner": _w("an old man, an old woman, the baker, the teacher, a tall farmer, the postman, a kind nurse, "
                "a young painter"),
    "fragile": _w("cup, vase, plate, lamp, window, flower pot, teapot, mirror"),
    "gift": _w("drawing, card, necklace, cake, crown of flowers, song, painting, wooden toy, warm scarf, jar of honey"),
    "happy": _w("happy, glad, proud, cheerful, very happy, so happy, full of joy"),
    "sad": _w("sad, worried, upset, very sad, unhappy, close to tears"),
    "hobby": _w("play outside, sing songs, draw pictures, climb trees, read books, run and jump, look at the stars, "
                "collect shells, dance in the rain, tell jokes, bake cakes, play ball, pick flowers, watch the clouds, "
                "swim in the lake, fly kites"),
    "number": _w("two, three, four, five, six, seven, eight, nine, ten"),
    "weather": _w("The sun was shining, The sky was blue, The air was warm, A soft wind was blowing, "
                  "The birds were singing, The flowers were in bloom, The clouds looked like sheep"),
    "vehicle": _w("boat, train, bus, wagon, cart"),
    "sight": _w("a tall tower, a rainbow, a herd of cows, a waterfall, a big ship, a field of flowers, an old mill"),
    "game": _w("hide and seek, tag, catch, a card game, a guessing game, a ball game"),
}
