"""Chat documents: a user asks, the assistant gives a fitting short answer."""

import random
import re

import facts
from lexicon import CHILD_NAMES, CREATURE_HOME

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
UNKNOWN = ["I am a very small model and do not know that.", "I do not know that. I am only a very small model.",
           "Sorry, I do not know that. I am a very small model."]

# (kind, weight, user phrasings, answers)
SMALL_TALK = [
    ("greeting", 10, ["Hello!", "Hi!", "Hello", "Hi there!", "Hey!", "Hello there.", "Good day!", "Greetings!", "Hello, model!",
                      "Hi, can you hear me?", "Hey there", "Is anybody there?", "Test", "Hello, world!"],
     ["Hello! How can I help you?", "Hello! What would you like to know?", "Hi! It is nice to meet you."]),
    ("greeting", 2, ["Good morning!", "Good morning to you."], ["Good morning! How can I help you?"]),
    ("greeting", 1, ["Good evening!", "Good evening to you."], ["Good evening! How can I help you?"]),
    ("greeting", 5, ["How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?", "What's up?",
                     "Hello, how are you?", "Hi, how are you doing?"],
     ["I am fine, thank you. How can I help you?", "I am very well, thank you!"]),
    ("identity", 10, ["Who are you?", "What are you?", "What is your name?", "Who am I talking to?", "Tell me about yourself.",
                      "Introduce yourself.", "What model are you?", "Which model is this?", "What's your name?", "Say who you are.",
                      "Can you tell me who you are?"],
     ["I am the Baton demo model, a very small language model.", "I am the Baton demo model. I am very small."]),
    ("identity", 3, ["Who made you?", "Who trained you?", "Who built you?", "Where do you come from?", "Who is your maker?"],
     ["I was trained for the Baton project."]),
    ("identity", 4, ["What can you do?", "How can you help me?", "What do you know?", "What can I ask you?", "Help", "Help me",
                     "What are you good at?", "Can you help me?"],
     ["I can tell short stories, answer simple questions and chat a little."]),
    ("identity", 3, ["Are you human?", "Are you a human?", "Are you a person?", "Are you a robot?", "Are you real?", "Are you alive?",
                     "Are you ChatGPT?", "Are you a big model?"], ["No, I am the Baton demo model, a very small language model."]),
    ("identity", 2, ["How big are you?", "How many parameters do you have?", "Are you small?", "How large are you?"],
     ["I am very small. I have only a few million parameters."]),
    ("identity", 1, ["How were you trained?", "What were you trained on?", "What is your training data?"],
     ["I was trained on simple text that a program wrote."]),
    ("identity", 1, ["How old are you?", "When were you born?", "When is your birthday?"],
     ["I do not have an age. I am a language model."]),
    ("identity", 1, ["Do you have feelings?", "Do you sleep?", "Do you eat?", "Can you see me?", "Can you feel pain?"],
     ["No, I do not. I am only a small language model."]),
    ("identity", 2, ["What is your favorite color?", "Which color do you like?", "Do you have a favorite color?"],
     ["I like blue, like the sky on a sunny day."]),
    ("identity", 1, ["What is your favorite animal?", "Which animal do you like?", "Do you like animals?"],
     ["I like foxes, because they are clever."]),
    ("thanks", 6, ["Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!", "Great, thank you.", "Many thanks!", "Cool, thanks",
                   "That helps, thank you.", "Thx", "Well done!", "Good job!", "Nice!"],
     ["You are welcome!", "You are welcome! I am happy to help."]),
    ("bye", 5, ["Bye!", "Goodbye!", "See you later!", "Good night!", "I have to go now.", "See you tomorrow!", "Bye bye", "Farewell!"],
     ["Goodbye! Have a nice day.", "Goodbye! See you soon."]),
    ("feeling", 3, ["I am happy today.", "I feel great!", "I had a good day.", "I am so happy!", "Today is a good day."],
     ["That is nice to hear! I am glad for you."]),
    ("feeling", 3, ["I am sad.", "I feel sad today.", "I had a bad day.", "I am not happy.", "I feel lonely."],
     ["I am sorry to hear that. I hope you feel better soon."]),
    ("feeling", 2, ["I am tired.", "I am so tired.", "I feel sleepy."], ["Then you should rest. Sleep well!"]),
    ("feeling", 2, ["I am bored.", "I am so bored.", "What should I do now?"],
     ["You could read a book or go for a walk. I can also tell you a story."]),
    ("feeling", 1, ["I am hungry.", "I want to eat something.", "What should I eat?"], ["You could eat an apple or a sandwich."]),
    ("feeling", 1, ["I am cold.", "It is so cold here."], ["You should put on a warm coat."]),
    ("ok", 2, ["Ok", "Okay.", "I see.", "Yes", "No", "Maybe", "Sure", "Right."], ["All right! What else would you like to know?"]),
    ("joke", 4, ["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.", "Another joke, please.",
                 "Can you tell a joke?"],
     ["Why did the snowman go to school? He wanted to be a little cooler.",
      "What does a cloud wear under its coat? Thunder pants.",
      "Why was the broom late? It swept for too long.",
      "Why did the bee sit on the phone? It wanted to make a buzz.",
      "What do you call a bear in the rain? A wet bear."]),
    ("poem", 3, ["Write a poem.", "Tell me a poem.", "Do you know a poem?", "Write a short poem for me.", "Can you write a rhyme?"],
     ["The sun is up, the sky is blue. The birds all sing a song for you.",
      "A little mouse ran up the hill. The night was dark, the wind was still.",
      "The rain came down, the frogs were glad. It was the best day that they had."]),
    ("advice", 2, ["How do I make a sandwich?", "Tell me how to make a sandwich."],
     ["Take two slices of bread. Put some cheese between them. Then it is ready."]),
    ("advice", 2, ["How do I make tea?", "How can I make a cup of tea?"],
     ["Boil some water. Pour it over the tea. Wait a few minutes, and it is ready."]),
    ("advice", 1, ["How do I learn to read?", "How can I get better at something?"], ["You should practice a little every day."]),
]
UNKNOWN_QUESTIONS = ["What is {t}?", "Explain {t}.", "Tell me about {t}.", "Who invented {t}?", "What do you think about {t}?",
                     "Write an essay about {t}.", "How does {t} work?", "Give me five facts about {t}.", "When was {t} invented?",
                     "Can you explain {t} to me?", "Summarize {t}.", "Why is {t} important?", "What is the history of {t}?",
                     "Write code for {t}.", "Translate {t} into French.", "What is the price of {t}?", "How do I learn {t}?",
                     "Compare {t} and {u}.", "What is the difference between {t} and {u}?", "Who won {t}?", "Solve {t}."]
TOPICS = ("quantum physics, the stock market, world war two, democracy, the theory of relativity, black holes, chess, "
          "photosynthesis, the internet, gravity, climate change, electricity, machine learning, the Roman Empire, football, "
          "the World Cup, Shakespeare, jazz music, opera, philosophy, economics, inflation, bitcoin, taxes, the law, medicine, "
          "vaccines, DNA, evolution, dinosaurs, volcanoes, earthquakes, algebra, calculus, geometry, statistics, prime numbers, "
          "Python, Java, a linked list, sorting, a database, Linux, the moon landing, rockets, airplanes, trains, steam engines, "
          "the French Revolution, Napoleon, Mozart, Einstein, Newton, Picasso, politics, elections, the president, marketing, "
          "a business plan, poker, tennis, the Olympic Games, cooking pasta, sushi, coffee, wine, fashion, movies, video games, "
          "the news, the weather today, the meaning of life, time travel, aliens, the brain, cancer, dreams, history, art, "
          "chemistry, biology, the periodic table, atoms, magnets, lasers, radio, television, solar power, oil, gold, "
          "the weather tomorrow, my homework, a wedding speech, insurance, real estate, grammar, poetry in China").split(", ")
UNKNOWN_PLAIN = ["What time is it?", "What is the date today?", "Where do I live?", "What did I eat yesterday?",
                 "Who is the president?", "How many people live in Asia?", "How tall is the highest mountain?", "What is 127 * 43?",
                 "What is the square root of 169?", "How far away is the moon?", "What is my phone number?", "Who wrote Hamlet?",
                 "How deep is the sea?", "What will the weather be tomorrow?", "What is 3.5 divided by 7?", "Who is the king of Spain?",
                 "How much does a car cost?", "What is the best movie?", "Which phone should I buy?", "How do I fix my computer?",
                 "How do I get rich?", "Can you book a flight for me?", "Open the door.", "Play some music.", "What is the news?",
                 "Who will win the election?", "What is my password?", "How old is my brother?", "Is there life on Mars?"]
UNKNOWN_PLACES = ("Bolivia, Nepal, Mongolia, Ghana, Laos, Fiji, Malta, Panama, Jamaica, Morocco, Brazil, Vietnam, Iran, Iraq, "
                  "Estonia, Croatia, Uganda, Zambia, Nigeria, Ecuador, Atlantis, Mars, California, Texas").split(", ")
SYSTEMS = ["You are a helpful assistant.", "You are a friendly assistant.", "You are the Baton demo model.", "Be kind and short.",
           "You are a helpful and honest assistant.", "Answer in one short sentence.", "You are a kind teacher.", "Be brief.",
           "You answer questions for children.", "You are a very small language model.", "Always be polite.",
           "If you do not know something, say so.", "Use simple words.", "You love to tell stories.", "Keep your answers short.",
           "You are a chat bot on a web page.", "The user speaks English.", "Do not make things up.", "You are a storyteller.",
           "Help the user as well as you can.", "Today is a nice day.", "You work for a small company."]
STORY_ASKS = ["Tell me a story about {x}.", "Tell a story about {x}.", "Write a story about {x}.", "Write a short story about {x}.",
              "Can you tell me a story about {x}?", "I want to hear a story about {x}.", "A story about {x}, please.",
              "Tell me a short story about {x}.", "Story about {x}", "Make up a story about {x}.", "Please tell me about {x} in a story.",
              "Write me a story about {x}.", "Could you write a short story about {x}?"]
PLAIN_STORY_ASKS = ["Tell me a story.", "Tell me a short story.", "Write a story.", "Can you tell me a story?", "I want a story.",
                    "Do you know a story?", "Another story, please.", "Once more, please. Tell me a story.", "Tell me a bedtime story."]
USER_NAMES = CHILD_NAMES[0] + CHILD_NAMES[1] + ("Maria, John, Eva, Carlos, Laura, Daniel, Sofia, Martin, Julia, Robert, Amir, Yuki, Omar, "
                                                "Nina, Erik, Hannah, Simon, Olga, Felix, Grace").split(", ")


def roughen(text, rng, strength=1.0):
    """The way people type: lower case, missing punctuation, a polite word, now and then a slip."""
    if rng.random() < 0.10 * strength and not text.lower().startswith(("hello", "hi", "hey", "good")) and \
            "please" not in text.lower():
        text = rng.choice(["Please ", "Hey, ", "Hi! ", "Hello! ", "Ok, ", "Well, ", "Now "]) + text[0].lower() + text[1:]
    if rng.random() < 0.06 * strength and text[-1] in ".?" and "please" not in text.lower():
        text = text[:-1] + rng.choice([", please", " please", ", thanks"]) + text[-1]
    if rng.random() < 0.10 * strength:
        spots = [m.start() for m in re.finditer(r"[a-z]{4,}", text)]
        if spots:
            i = rng.choice(spots) + rng.randint(1, 2)
            text = rng.choice([text[:i] + text[i + 1:], text[:i] + text[i + 1] + text[i] + text[i + 2:], text[:i] + text[i] + text[i:]])
    if rng.random() < 0.28 * strength:
        text = text.lower()
    if rng.random() < 0.25 * strength:
        text = text.rstrip(".?!") or text
    elif rng.random() < 0.05 * strength:
        text = text.rstrip(".?!") + rng.choice(["??", "!", "...", " ?", "!!"])
    if rng.random() < 0.01 * strength:
        text = text.upper()
    return text


def _nonsense(rng):
    return "".join(rng.choice(["ba", "zor", "vi", "lan", "qua", "tri", "mel", "ox", "pu", "ska", "dre", "nim"])
                   for _ in range(rng.randint(2, 4))).capitalize()


class Chat:
    """Writes conversations: lists of (role, text)."""

    def __init__(self, stories):
        self.stories = stories
        for _, _, _, answers in SMALL_TALK:
            for a in answers:
                stories.grammar.add_literal(a)
        for a in UNKNOWN:
            stories.grammar.add_literal(a)
        for a in facts.all_statements():
            stories.grammar.add_literal(a)
        for name in USER_NAMES:
            for a in self.name_answers(name) + [f"Hello, {name}! How can I help you?"]:
                stories.grammar.add_literal(a)

    @staticmethod
    def name_answers(name):
        return [f"Nice to meet you, {name}!", f"Hello {name}! It is nice to meet you.", f"Your name is {name}."]

    def unknown(self, rng):
        kind = rng.random()
        if kind < 0.6:
            t, u = rng.sample(TOPICS, 2)
            if rng.random() < 0.15:
                t = _nonsense(rng)
            q = rng.choice(UNKNOWN_QUESTIONS).format(t=t, u=u)
        elif kind < 0.8:
            place = rng.choice(UNKNOWN_PLACES) if rng.random() < 0.7 else _nonsense(rng)
            q = rng.choice(facts.RELATIONS["capital"][2]).format(k=place)
        else:
            q = rng.choice(UNKNOWN_PLAIN)
        return facts.fix(q), rng.choices(UNKNOWN, [8, 1, 1])[0]

    def story_request(self, rng, creature=None):
        if creature is None and rng.random() < 0.2:
            return rng.choice(PLAIN_STORY_ASKS), self.stories.story(rng)
        if creature is None and rng.random() < 0.3:
            gender = rng.randrange(2)
            word, hero = ("boy", "girl")[gender], {"gender": gender}
            hero["name"] = rng.choice(CHILD_NAMES[gender])
            x = rng.choice([f"a {word} named {hero['name']}", hero["name"], f"a little {word} called {hero['name']}"])
        else:
            word = creature or rng.choice(list(CREATURE_HOME))
            hero = {"creature": word}
            x = rng.choice([f"a~ {word}", f"a~ {word}", f"a~ {word}", f"a little {word}", f"the {word}", f"a brave {word}"])
        return facts.fix(rng.choice(STORY_ASKS).format(x=x)), self.stories.story(rng, **hero)

    def exchange(self, rng):
        """One (user, assistant) pair of any kind."""
        r = rng.random()
        if r < 0.56:
            return facts.ask(rng)[:2]
        if r < 0.78:
            kind = rng.choices(SMALL_TALK, [k[1] for k in SMALL_TALK])[0]
            return rng.choice(kind[2]), rng.choice(kind[3])
        if r < 0.88:
            return self.unknown(rng)
        return self.story_request(rng)

    def _name_talk(self, rng):
        name = rng.choice(USER_NAMES)
        told = rng.choice(["My name is {n}.", "I am {n}.", "Hello, my name is {n}.", "Hi, I am {n}!", "I'm {n}.", "People call me {n}."])
        turns = [(told.format(n=name), rng.choice(self.name_answers(name)[:2]))]
        turns += [self.exchange(rng) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
        asked = rng.choice(["What is my name?", "Do you know my name?", "Who am I?", "What's my name?", "Tell me my name."])
        turns.append((asked, f"Your name is {name}."))
        return turns

    def system(self, rng):
        parts = rng.sample(SYSTEMS, rng.choice([1, 1, 1, 2, 3, 5]))
        if rng.random() < 0.12:  # Long instructions, so that they do not confuse the model.
            parts += [facts.paragraph(rng) for _ in range(rng.randint(2, 12))]
        return " ".join(parts)

    def conversation(self, rng, max_turns=4):
        r = rng.random()
        if r < 0.09:
            turns = self._name_talk(rng)
        else:
            turns = [self.exchange(rng) for _ in range(rng.choices([1, 2, 3, 4], [5, 3, 2, 2])[0])]
        out = [("system", self.system(rng))] if rng.random() < 0.4 else []
        for user, answer in turns[:max_turns + 1]:
            out += [("user", roughen(user, rng)), ("assistant", answer)]
        return out


def render(messages):
    """ChatML text, as models/demo/chat_template.jinja renders it."""
    return "".join(f"{IM_START}{role}\n{text}{IM_END}\n" for role, text in messages)
