"""The sentiment model as it is trained from the project's own data, on sentences that are not in that data."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from zipfile import ZIP_DEFLATED

import numpy as np
import pytest
from skops.io import dumps

from falcon_wsgi.errors import TrainingDataInvalid
from falcon_wsgi.models.loading import deserialise
from falcon_wsgi.models.packing import pack
from falcon_wsgi.models.recipe import Trained
from falcon_wsgi.resources import RECIPES

FOLDER = RECIPES / "sentiment"
CLASSES = ("negative", "neutral", "positive")
LEAST_SHARE_RIGHT = 0.8
LEAST_HELD_OUT_ACCURACY = 0.72

NAMED = [
    ("not good", "negative"),
    ("not bad at all", "positive"),
    ("This is not bad at all.", "positive"),
    ("isn't worth the money", "negative"),
    ("It isn\u2019t worth the money.", "negative"),
    ("I expected more", "negative"),
    ("it arrived on Tuesday", "neutral"),
    ("The meeting starts at 9 am in room 4", "neutral"),
    ("The battery has 4000 mAh", "neutral"),
    ("Who plays the main character?", "neutral"),
    ("The cabinet meets every Wednesday.", "neutral"),
    ("The value of the order was not disclosed.", "neutral"),
    ("I've never been to Canada.", "neutral"),
    ("@airline what gate does flight 1182 leave from?", "neutral"),
    ("Net profit rose to EUR 8.4 million from EUR 5.1 million a year earlier.", "positive"),
    ("Sales dropped sharply in the third quarter.", "negative"),
    ("The food was fine but the service was slow", "negative"),
    ("The service was slow but the food was amazing", "positive"),
    ("never disappoints", "positive"),
    ("No complaints whatsoever", "positive"),
    ("It could have been better", "negative"),
    ("I want my money back", "negative"),
    ("save your money", "negative"),
    ("Do yourself a favor and go", "positive"),
    ("I could not put it down", "positive"),
    ("nothing special", "negative"),
    ("It lacks flavor", "negative"),
    ("Without any taste", "negative"),
    ("The soup was too salty", "negative"),
    ("It wasn't as good as I hoped", "negative"),
    ("I have never been so disappointed", "negative"),
    ("I couldn't be happier", "positive"),
    ("We will be back", "positive"),
    ("We won't be back", "negative"),
    ("I don't recommend this place", "negative"),
    ("I can't recommend it enough", "positive"),
]

# Sentences that no training file holds, of the kinds that people send: reviews of things, films, apps, places and
# services, short messages, news, questions, instructions.
NEGATIVE = """\
Bought this for my mother and the hinge gave out before Christmas.
The microphone picks up every noise in the room, which makes calls unbearable.
Do not purchase, the seller ships refurbished units as new.
The touchscreen lags so badly that typing is a guessing game.
Plug was the wrong size for my device and returning it cost more than the item.
I am on my third replacement in as many months.
If you want something that lasts, buy a different brand.
It is no better than the ten dollar version.
Charger arrived dead.
Was hoping it would fit my older model, but no luck.
The belt clip is a joke.
You'll be lucky if this makes it through the week.
Too bulky to carry in a pocket.
Nice sound but horrible comfort, my ears ached.
Cheap plastic, rattles when you shake it.
The menu system is confusing and the buttons are far too small.
I ended up giving it away.
Lid does not close properly.
Their tech support was clueless and kept transferring me.
This film is a mess from beginning to end.
I have rarely been so bored in a theater.
Every character is a stereotype.
The director has no idea how to build tension.
Whoever edited this should look for another profession.
A forgettable sequel to a classic.
I felt nothing for anyone on screen.
Even by the low standards of the genre, this is poor.
There's not one original thought in the entire running time.
The dialog is laughably bad.
You never believe for a second that these two are in love.
Ninety minutes that feel like four hours.
The lead actress cannot act.
The plot, such as it is, exists only to connect the explosions.
It is a shame that such talented actors are stuck with lines like these.
Give this one a miss.
An utter snooze.
It's an hour too long and has nothing to say.
The jokes fall flat and the romance is tepid.
ugh my train is late again
my stomach hurts so bad
i can't believe summer is over already :(
so over this week
why does my wifi hate me
this heat is unbearable
missing my bed right now
my car broke down on the highway
finals are going to destroy me
spilled coffee all over my keyboard
Meals are bland and the staff seems annoyed that you showed up.
Our food sat under the heat lamp while the waiter chatted.
They got my order wrong, twice.
We practically had to beg for the check.
My girlfriend's pasta came with a side of plastic wrap.
Should have gone next door.
Expect to be ignored.
Gave me food poisoning.
Wouldn't go back if they paid me.
Nothing we ordered was hot.
Never have I received such poor treatment.
The front desk clerk was dismissive and the lobby smelled of mildew.
Paper thin walls and a party next door all night.
Housekeeping never came once during our stay.
Bedbugs. Enough said.
Since upgrading, the app closes itself every few minutes.
Subscription price doubled overnight, no warning.
Keeps asking me to rate it, so here is your one star.
The latest version broke syncing.
They quoted one price and billed me another.
Two months later the leak is back.
I've called four times with no response.
""".splitlines()

POSITIVE = """\
Audio quality is terrific considering what it costs.
Slides into the slot easily and has stayed there since.
I have dropped this phone a dozen times and it keeps on ticking.
Reception inside my house is perfect now.
The leather smells great and the stitching is neat.
Takes gorgeous photos at night.
For such a tiny speaker it fills the entire room.
I'd buy from this vendor again.
Couldn't ask for a nicer little radio.
Performs exactly as advertised and the setup was painless.
This headset beats everything else I own.
Mine has been running every day for five years.
Excellent bang for the buck.
Don't let the low price fool you, it's quality stuff.
Sturdier than I thought it would be.
The kettle boils fast and pours without spilling.
An absorbing drama with two first rate performances.
The script crackles with wit.
Cinematography is lush and the score is haunting.
It's the kind of picture you want to see twice.
Her portrayal of the widow is astonishingly good.
The story had me from the opening shot.
The kids giggled all the way through and so did I.
By the time the credits rolled I was in tears.
A wonderfully odd little comedy.
It captures the loneliness of the city beautifully.
Simply one of the finest thrillers ever made.
Great fun for the whole family.
I've seen it at least five times and never tire of it.
Smart, tense and beautifully paced.
If you enjoy mysteries, you will love this.
A heartfelt performance by the whole ensemble.
omg the new album is sooo good
happy friday everybody!
thx for the shoutout, you rock
just had the best tacos of my life
lol that video made my day
got my tickets!!! so pumped for the show
up early for a run, feels amazing
awww what a cute kitten
thank you for all the birthday wishes
Perfect spot for a lazy Sunday brunch.
The grilled octopus was a revelation.
Everything was seasoned just right.
I'd drive an hour for those ribs.
Reasonable prices and big smiles.
We'll be regulars from now on.
The gnocchi were little pillows of joy.
Friendly place with hearty portions.
The cocktails are inventive and strong.
Skip the entrees and go straight for the pies, they're fabulous.
Comfy beds, quiet hallways, fantastic shower.
We were moved to a better room at no charge.
I'd happily stay here again.
Location couldn't be more convenient.
The beach is right outside the door and it's gorgeous.
Clean interface, zero ads, love it.
This little program saved my semester.
It just works.
I've recommended it to all of my coworkers.
The plumber was on time, polite and left no mess.
He patched my tire for free.
The staff at this clinic truly care.
""".splitlines()

NEUTRAL = """\
The meeting starts at 9 am in room 4.
The battery has 4000 mAh.
The parcel was delivered to my neighbor.
She works at the bakery on the corner.
The committee approved the minutes of the previous session.
The Senate will vote on the measure on Thursday.
A spokesperson said the investigation is continuing.
Apple will present its quarterly results on Tuesday.
Researchers from Oxford examined 300 volunteers over two years.
The council approved the construction of a new library.
The play has three acts.
It was filmed in New Zealand.
The third season consists of ten episodes.
The router has four ethernet ports.
This model replaces the one from 2018.
I ordered a medium in green.
We paid in cash.
Dinner is served between six and nine.
The hotel was built in 1987.
The lobby is on the ground floor.
Does the room have a kettle?
How do I connect it to my television?
Is this compatible with Windows 11?
What channel is the game on?
where are you guys
on the bus home
just posted a new video on my channel
watching the match with dad
I'm going to the dentist tomorrow.
My brother drives a truck.
He bought a newspaper and a sandwich.
The cat sat on the mat.
The train to Berlin leaves from platform 7.
Copper conducts electricity.
The Nile is longer than the Rhine.
Add two cups of flour and stir.
Install the package with pip and restart the server.
The function returns a list of strings.
The contract was signed by both parties in March.
Interest rates remained at 4 percent.
The students wrote an essay about the French Revolution.
There are about fifty people in the room.
The red car is parked in front of the house.
The report will be published next month.
They moved from Ohio to Oregon in 1998.
The shop does not open on Sundays.
I haven't watched the second part yet.
You can return the item within 30 days.
The shirt is 60 percent cotton.
My flight lands at 4:35 pm.
The dog is lying under the table.
The gallery shows paintings by local artists.
Please send the form back by Friday.
The old bridge crosses the river north of the town.
The company hired 200 engineers last year.
The recipe serves four people.
Press the power button for five seconds.
The film opens in theaters in May.
The novel was translated into twelve languages.
Our table was near the window.
I took the number 12 bus downtown.
The minister travelled to Brussels on Monday.
The sample was heated to 80 degrees.
He wore a brown coat and a hat.
""".splitlines()

UNSEEN = {"negative": NEGATIVE, "neutral": NEUTRAL, "positive": POSITIVE}


def silent(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    name = "falcon_recipe_sentiment_under_test"
    spec = importlib.util.spec_from_file_location(name, FOLDER / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def trained(recipe: ModuleType) -> Trained:
    return recipe.train(None, silent)  # type: ignore[no-any-return]


def in_training_data() -> set[str]:
    sentences: set[str] = set()
    for path in (FOLDER / "data").glob("sentences_*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            sentences |= {row["text"].lower().rstrip(".!?") for row in csv.DictReader(file)}
    with (FOLDER / "data" / "lexicon.csv").open(encoding="utf-8", newline="") as file:
        return sentences | {row["term"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(("text", "label"), NAMED)
def test_a_named_example_comes_out_right(trained: Trained, text: str, label: str) -> None:
    probabilities = dict(zip(trained.labels, trained.estimator.predict_proba([text])[0], strict=True))
    assert max(probabilities, key=probabilities.__getitem__) == label, probabilities


@pytest.mark.parametrize("label", CLASSES)
def test_unseen_sentences_are_told_apart(trained: Trained, label: str) -> None:
    texts = UNSEEN[label]
    assert len(texts) >= 60
    wrong = [
        text for text, found in zip(texts, trained.estimator.predict(texts), strict=True) if found != label
    ]
    assert len(wrong) <= (1 - LEAST_SHARE_RIGHT) * len(texts), wrong


@pytest.mark.parametrize("label", CLASSES)
def test_no_unseen_sentence_is_in_the_training_data(label: str) -> None:
    assert not {text.lower().rstrip(".!?") for text in UNSEEN[label]} & in_training_data()


@pytest.mark.parametrize("text", ["asdf qwer zxcv", "\u65e5\u672c\u8a9e", "...", "42"])
def test_a_text_without_evidence_is_neutral(trained: Trained, text: str) -> None:
    assert trained.estimator.predict([text])[0] == "neutral"


def test_confidence_is_higher_where_the_answer_is_right(trained: Trained) -> None:
    texts = [text for label in CLASSES for text in UNSEEN[label]]
    labels = np.array([label for label in CLASSES for _ in UNSEEN[label]])
    probabilities = trained.estimator.predict_proba(texts)
    confidence = probabilities.max(axis=1)
    right = np.array(trained.labels)[probabilities.argmax(axis=1)] == labels
    assert confidence[right].mean() > confidence[~right].mean() + 0.1
    assert abs(confidence.mean() - right.mean()) < 0.1


def test_the_held_out_accuracy_is_recorded_and_sufficient(trained: Trained) -> None:
    assert trained.labels == CLASSES
    assert trained.metrics["accuracy"] >= LEAST_HELD_OUT_ACCURACY
    assert trained.metrics["macro_f1"] >= LEAST_HELD_OUT_ACCURACY
    assert trained.metrics["per_class"].keys() == set(CLASSES)
    assert all(scores["recall"] >= 0.65 for scores in trained.metrics["per_class"].values())
    assert trained.metrics["held_out_rows"] >= 400


def test_the_stored_form_loads_with_the_servers_allow_list(trained: Trained) -> None:
    archive = dumps(pack(trained.estimator), compression=ZIP_DEFLATED)
    assert len(archive) < 8 * 1024 * 1024
    loaded = deserialise(archive, "sentiment/test")
    texts = list(trained.golden_inputs)
    assert np.array_equal(loaded.predict_proba(texts), trained.estimator.predict_proba(texts))


def test_two_trainings_give_equal_coefficients(recipe: ModuleType) -> None:
    amounts = recipe.Amounts(keep=0, flip=1, neutral=1_000, blank=100, composed=500, repeats=1)
    first, second = (recipe.train(None, silent, amounts).estimator for _ in range(2))
    assert first[0].vocabulary_ == second[0].vocabulary_
    assert np.array_equal(first[1].coef_, second[1].coef_)
    assert np.array_equal(first[1].intercept_, second[1].intercept_)


def test_progress_never_falls_and_ends_at_one(recipe: ModuleType) -> None:
    shares: list[float] = []
    recipe.train(
        None,
        lambda stage, share: shares.append(share),
        recipe.Amounts(keep=0, flip=1, neutral=1_000, blank=100, composed=500, repeats=1),
    )
    assert len(shares) >= 20
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_users_file_trains_its_own_labels(recipe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "topics.csv"
    rows = [f"the {word} number {i},{topic}" for topic, word in TOPICS.items() for i in range(10)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    shares: list[float] = []
    trained = recipe.train(path, lambda stage, share: shares.append(share))
    assert trained.labels == ("animal", "place", "tool")
    assert trained.estimator.predict(["a hammer"])[0] == "tool"
    assert trained.metrics["accuracy"] == 1.0
    assert (trained.metrics["training_rows"], trained.metrics["held_out_rows"]) == (30, 6)
    assert (trained.data["name"], trained.data["rows"]) == ("topics.csv", 30)
    assert len(shares) >= 20
    assert shares == sorted(shares)


TOPICS = {"tool": "hammer", "animal": "horse", "place": "harbor"}


def test_a_users_file_with_two_rows_for_each_label_is_enough(recipe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text("text,label\ngood,1\nfine,1\nbad,0\nawful,0\n")
    trained = recipe.train(path, silent)
    assert trained.labels == ("0", "1")
    assert trained.metrics["held_out_rows"] == 0
    assert trained.estimator.predict(["awful"])[0] == "0"


def test_a_users_file_without_a_single_word_is_refused(recipe: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "dots.csv"
    path.write_text("text,label\n.,a\n.,a\n.,b\n.,b\n")
    with pytest.raises(TrainingDataInvalid, match="no words"):
        recipe.train(path, silent)
