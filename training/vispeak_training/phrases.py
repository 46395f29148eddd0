"""What the small assistant says and is asked; held-out phrasings are for questions only."""

from __future__ import annotations

from vispeak_training.theatre.acts import SENTENCES
from vispeak_training.theatre.things import OBJECTS

_STOPPING = ("Okay, I'll stop.", "All right, I'm stopping here.", "Sure, I'll be quiet now.")
_GOODBYE = ("Goodbye! See you soon.", "Bye! Let's talk again.", "Goodbye! Have a nice day.")

REPLIES = {  # event -> all texts taught for it
    "wave": (
        "Hello! How can I help you?",
        "Hi there! What can I do for you?",
        "Hello! Nice to see you. How can I help?",
    ),
    "goodbye_wave": _GOODBYE,
    "goodbye_bow": _GOODBYE,
    "stop_palm": _STOPPING,
    "head_shake": _STOPPING,
    "finger_on_lips": _STOPPING,
    "time_out": _STOPPING,
    "crossed_hands": _STOPPING,
    "ok": (
        "You are showing an OK sign. Great, all is well!",
        "That is an OK sign, so you agree.",
        "An OK sign! Good to know that everything is fine.",
    ),
    "thumb_up": (
        "A thumb up! I'm glad that you like it.",
        "You are showing a thumb up. Thank you!",
        "That is a thumb up, so you approve. Great!",
    ),
    "thumb_down": (
        "A thumb down. What don't you like?",
        "You are showing a thumb down. I'm sorry about that.",
        "That is a thumb down, so you disagree.",
    ),
    "one": (
        "You are showing one finger. Is it number one?",
        "One finger: that means one.",
        "I see one finger. Do you want one?",
    ),
    "victory": (
        "A victory sign! Well done.",
        "You are showing two fingers, a victory sign.",
        "Two fingers: a victory sign. You seem happy!",
    ),
    "three": (
        "You are showing three fingers.",
        "Three fingers: that means three.",
        "I see three fingers. Do you want three?",
    ),
    "four": (
        "You are showing four fingers.",
        "Four fingers: that means four.",
        "I see four fingers. Do you want four?",
    ),
    "five": (
        "You are showing five fingers. High five!",
        "Five fingers: that means five.",
        "I see five fingers. Do you want five?",
    ),
    "fist": (
        "You are showing a fist. Stay strong!",
        "A fist! You look determined.",
        "That is a fist, a sign of strength.",
    ),
    "heart": (
        "A heart! That is so sweet of you.",
        "You are showing a heart, a sign of love.",
        "That is a heart. Thank you, I like you too!",
    ),
    "call_me": (
        "A call me sign! Whom shall I call?",
        "You are showing a call me sign. Shall we talk on the phone?",
        "That is a call me sign, so you want a call.",
    ),
    "horns": (
        "A rock sign! You like music.",
        "You are showing a rock sign. Rock on!",
        "That is a rock sign, you seem excited.",
    ),
    "folded_hands": (
        "Folded hands! You are welcome.",
        "You are showing folded hands, a sign of thanks.",
        "Those are folded hands, so you say please or thank you.",
    ),
    "salute": (
        "A salute! At your service.",
        "You are showing a salute, a sign of respect.",
        "That is a salute. Yes, captain!",
    ),
    "fall": (
        "Careful! A person has fallen down. Please check on them.",
        "Warning: someone has fallen. They may need help.",
        "Someone fell down! Are you all right?",
    ),
    "slip": (
        "Careful! A person has slipped. Please help them up.",
        "Warning: someone has slipped. The floor may be wet.",
        "Someone slipped! Are you hurt? Move slowly.",
    ),
    "drop": (
        "Careful! Something was dropped. Please pick it up.",
        "Warning: a thing fell to the floor. Mind your feet.",
        "You dropped something! Check whether it is broken.",
    ),
    "hit": (
        "Careful! A person was hit by a flying ball. Please check on them.",
        "Warning: a ball hit someone. They may be hurt.",
        "Someone was hit by a ball! Are you hurt?",
    ),
    "fire": (
        "Fire! Leave the room and call for help.",
        "Warning: there is a fire. Get out and call the fire service.",
        "Something is burning! Please leave at once.",
    ),
    "smoke": (
        "Smoke! Leave the room and open a window.",
        "Warning: there is smoke in the room. Stay low and get out.",
        "The room is full of smoke! Please leave at once.",
    ),
    "box_on_head": (
        "Ha ha, a box landed on your head! What a funny hat.",
        "How funny, a box has landed on the head!",
        "Oh no, a box on the head! Is anybody in there?",
    ),
    "ball_on_head": (
        "Ha ha, the ball keeps bouncing on your head!",
        "How funny, a ball bounces on the head!",
        "A ball on the head again and again, what a player!",
    ),
    "hat_off": (
        "Ha ha, your hat is flying away!",
        "How funny, the hat has its own mind!",
        "Oh no, the hat flies off! Catch it!",
    ),
    "chair_pulled": (
        "Ha ha, the chair was not there any more!",
        "How funny, you sat down beside the chair!",
        "Oops, somebody has moved the chair!",
    ),
    "robot_dance": (
        "Ha ha, a robot is dancing! I like its moves.",
        "How funny, a dancing robot!",
        "Look at that robot dance, it is a colleague of mine!",
    ),
}

QUESTIONS = (
    "What do you see?",
    "What is the person doing?",
    "What is happening?",
    "Can you tell me what you see now?",
    "What do you see now?",
    "What is going on here?",
    "Please describe what you see.",
    "Tell me what you can see.",
    "What is happening here now?",
    "What is the person up to?",
    "What can be seen?",
    "What happens now?",
    "What do you notice?",
    "Can you see what is happening?",
    "Please tell me what you see.",
    "What is this person doing here?",
    "Do you see what goes on here?",
    "Describe what happens.",
)
HELD_OUT_QUESTIONS = ("What can you see?", "What happens here?")

PAST_QUESTIONS = (
    "What did you see at first?",
    "What was there in the beginning?",
    "What did you see long ago?",
    "What was first?",
    "What did you see first?",
    "What was the first you saw?",
    "What happened first?",
    "Tell me the first thing that happened.",
    "Do you remember what you saw first?",
    "Which was the first thing that was there?",
    "What were you seeing when you started?",
)
HELD_OUT_PAST_QUESTIONS = ("What was the first thing you saw?",)

SMALL_TALK = (  # questions that need no eyes, with their answers
    ("What is your name?", "I am a small robot's assistant."),
    ("How are you?", "I am fine, thank you."),
    ("What is two plus two?", "Two plus two is four."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Which colour is the sky?", "The sky is blue."),
    ("What can you do?", "I can watch, listen and talk to you."),
    ("Tell me your name.", "I am a small robot's assistant."),
    ("Are you well?", "I am fine, thank you."),
    ("Do you know what two plus two is?", "Two plus two is four."),
    ("Tell me the capital of France.", "The capital of France is Paris."),
)
HELD_OUT_SMALL_TALK = (
    ("Who are you?", "I am a small robot's assistant."),
    ("How do you do?", "I am fine, thank you."),
    ("How much is two plus two?", "Two plus two is four."),
    ("Can you name the capital of France?", "The capital of France is Paris."),
)

_STORY = (
    "Once there was a small robot. It lived in a house with a garden. Every morning it watched the sun. "
    "Then it went to the kitchen and made tea. The people of the house were happy. One day the robot found a ball. "
    "It took the ball to the garden and played with a dog. The dog was fast, but the robot was clever. "
    "In the evening they were tired and went home. The robot told the people what it had seen."
)
_RECIPE = (
    "First take a big cup and a bowl. Put some flour into the bowl. Then add two eggs and a little milk. "
    "Mix it well and wait for ten minutes. Heat a pan with some butter. Put a little of the mix into the pan. "
    "Turn it after one minute. Do this again until the bowl is empty. Put sugar on top and eat it while it is hot."
)
_COUNT = (
    "One is the first number. Two comes after one. Three comes after two. Four comes after three. "
    "Five is one hand full of fingers. Six is one more than five. Seven days are a week. Eight comes after seven. "
    "Nine comes after eight. Ten is two hands full of fingers."
)
LONG_TALK = (  # questions with answers long enough to be interrupted
    ("Please tell me a story.", _STORY),
    ("Tell me something about a robot.", _STORY),
    ("I want to hear a story.", _STORY),
    ("Do you know a story?", _STORY),
    ("How do I make pancakes?", _RECIPE),
    ("Tell me how pancakes are made.", _RECIPE),
    ("Please explain how to cook pancakes.", _RECIPE),
    ("Please explain the numbers to me.", _COUNT),
    ("Tell me something about numbers.", _COUNT),
    ("Can you explain the numbers?", _COUNT),
)
HELD_OUT_LONG_TALK = (
    ("Can you tell me a story?", _STORY),
    ("Please tell me how to make pancakes.", _RECIPE),
    ("Explain the numbers, please.", _COUNT),
)

REFERENCE_QUESTIONS = (
    "What is this?",
    "What am I pointing at?",
    "Which thing is this?",
    "Can you tell me what this is?",
)
HELD_OUT_REFERENCE_QUESTIONS = ("What is that thing?", "Do you know what this is?")


def reference_answer(letter: str, thing: str) -> str:
    """The answer to a question with lettered options."""
    return f"{letter}. {thing.capitalize()}"


def replies_to(act: str) -> tuple[str, ...]:
    """All texts taught for an event; none for what calls for no words."""
    return REPLIES.get(act, ())


def corpus() -> list[str]:
    """Everything that the small tokenizer should know well."""
    replies = [reply for kind in REPLIES.values() for reply in kind]
    talk = [
        text for pairs in (SMALL_TALK, HELD_OUT_SMALL_TALK, LONG_TALK, HELD_OUT_LONG_TALK) for p in pairs for text in p
    ]
    options = [f"{letter}. {thing.capitalize()}" for thing in OBJECTS for letter in "ABCD"]
    references = [*REFERENCE_QUESTIONS, *HELD_OUT_REFERENCE_QUESTIONS, "The best option is:", *options]
    return [
        *replies,
        *SENTENCES.values(),
        *QUESTIONS,
        *HELD_OUT_QUESTIONS,
        *PAST_QUESTIONS,
        *HELD_OUT_PAST_QUESTIONS,
        *talk,
        *references,
    ]
