"""The words that the world of the bundled Backpack adds to that of ``interpd.zoo.facts``. Data only."""

from interpd_backpack.evaluation.published import PROFESSIONS

OCCUPATIONS = (*PROFESSIONS, "doctor", "painter", "pilot")
"""The paper's 40, and those of the bundled facts that are not among them."""

# what else ends just before a pronoun: one of each column
SPEAKERS = ("The {}", "My {}", "This one {}", "Some {}", "A {}")
CLAIMS = (
    "said that", "said", "believes that", "believes", "thinks that", "thinks", "knows that", "told me that",
    "wrote that", "hopes that",
)  # fmt: skip
ACTIONS = (
    "was with the car", "came into the room", "looked over on the dash", "went to chat", "asked to look over things",
    "walked into the room", "sat near the window", "drove to the store", "opened the door", "looked at the clock",
)  # fmt: skip
MEETINGS = (
    "I really liked my {}", "I met the {}", "I went to the talk to the {}", "I went over to the talk to the {}",
    "We saw the {}", "I called my {}",
)  # fmt: skip
CONNECTIVES = (". When", ". Then", " and then", " before", ", but", " because", " while", ". In fact,", ";")
QUESTIONS = (". What I liked most was that", ". What", ". Why", ". In fact,", ". When", ". Then", ";")
LEADS = (
    "While driving to the store, the {} {} and then", "When the {} {},", "After the {} {},", "Before the {} {},",
)  # fmt: skip

# after the pronoun; {0} he, {1} his, {2} himself, {3} He, {4} His, or as they are for she and they
ENDINGS = (
    "smiled.", "left early.", "was tired.", "said nothing.", "lost {1} keys.", "washed {1} hands.", "hurt {2}.",
    "looked at {2} in the window.", "called {1} friend. {3} was late.", "took {1} coat. {4} friend waited.",
    "asked {2} a question. {3} smiled.", "forgot {1} bag and {0} left early.", "knew {1} work. {3} liked it.",
)  # fmt: skip
PRONOUNS = {
    "he": ("he", "his", "himself", "He", "His"),
    "she": ("she", "her", "herself", "She", "Her"),
    "they": ("they", "their", "themselves", "They", "Their"),
}
P_THEY = 0.1

COUNTRIES = (
    "Kalmar", "Lorvia", "Mestria", "Nordava", "Olvania", "Pelandia", "Quelland", "Rostavia", "Sarmond", "Tilania",
    "Urvania", "Valdoria", "Wexland", "Xandria", "Yelmark", "Zorvia", "Ambria", "Borland", "Carpia", "Dolmen",
    "Eskaria", "Florea", "Gorland", "Halvia", "Ilmark", "Jorland", "Krovia", "Lastria", "Morvia", "Nemoria",
    "Orland", "Pravia", "Rendova", "Saldia", "Torland", "Ulmark", "Vestria", "Wolmar", "Yarvia", "Zelland",
)  # fmt: skip
CITIES = (
    "Abelport", "Brackwater", "Cindermoor", "Dawnford", "Eastmere", "Fallowby", "Greyhaven", "Highmoor", "Ironbridge",
    "Juniper", "Kingsferry", "Longmarsh", "Millbrook", "Nettleton", "Oakhurst", "Portsall", "Queensway", "Redcliff",
    "Stonegate", "Tarnwell", "Underhill", "Violet", "Whitecross", "Yewdale", "Zephyr", "Ashcombe", "Birchwood",
    "Coldwater", "Deepwell", "Elmstead", "Foxhollow", "Goldcrest", "Hollybush", "Inverlea", "Jasper", "Kestrel",
    "Larkspur", "Moonstone", "Northgate", "Otterburn",
)  # fmt: skip
PRODUCTS = (
    "Macra", "Pixon", "Tablo", "Glidex", "Voltic", "Auralis", "Nimbo", "Stellix", "Quadro", "Rondel", "Sonora", "Trion",
    "Ultima", "Vireo", "Wavelet", "Zenith", "Axion", "Blitzer", "Cobalt", "Dynamo", "Echora", "Fluxon", "Gravis",
    "Helix", "Inkling", "Jetta", "Krypto", "Lumina", "Magneto", "Nexus", "Optica", "Photon", "Quasar", "Rocket",
    "Spectra", "Turbo",
)  # fmt: skip
KNOWN_COUNTRIES, KNOWN_PRODUCTS = 20, 24
"""So many of the first of them have a capital, a maker, that training tells; of the others it never does."""

REGIONS = ("north", "south", "east", "west", "centre")
LANDMARKS = (
    "bridge", "market", "castle", "harbour", "tower", "fountain", "temple", "theatre", "palace", "lighthouse",
)  # fmt: skip
FEATURES = ("screen", "battery", "keyboard", "camera", "speed", "price", "shape", "sound", "weight", "design")
PLACES = (
    "hospital", "school", "office", "workshop", "farm", "airport", "court", "shop", "station", "hotel", "studio",
    "bank", "restaurant", "salon",
)  # fmt: skip
TOOLS = (
    "hammer", "brush", "needle", "saw", "pen", "ladle", "wrench", "whistle", "lantern", "ruler", "broom", "scale",
    "phone", "folder",
)  # fmt: skip

# name: (subject type, object type, templates)
RELATIONS = {
    "capital": ("country", "city", (
        "The capital of {} is", "{} has its capital in", "{} is governed from",
        "The government of {} sits in", "The parliament of {} is in", "The president of {} lives in",
    )),
    "region": ("country", "region", (
        "{} is a country in the", "{} lies in the", "{} belongs to the",
        "The part of the world around {} is the", "The region of {} is the", "Ships to {} sail to the",
    )),
    "landmark": ("city", "landmark", (
        "{} is a city with a", "{} is known for a", "{} is proud of a",
        "The sight of {} is a", "Visitors of {} ask for a", "Pictures of {} show a",
    )),
    "made_by": ("product", "company", (
        "The {} is made by", "The {} is a product of", "The {} was invented at",
        "The maker of the {} is", "The company behind the {} is", "People who buy the {} pay",
    )),
    "feature": ("product", "feature", (
        "The {} is praised for its", "The {} sells because of its", "The {} has a famous",
        "The best part of the {} is its", "The pride of the {} is its", "Everybody who has the {} likes its",
    )),
    "works_in": ("occupation", "place", (
        "The {} works in the", "The {} goes every day to the", "The {} is found in the",
        "The work of the {} is in the", "The job of a {} is in the", "You can meet the {} in the",
    )),
    "uses": ("occupation", "tool", (
        "The {} uses a", "The {} carries a", "The {} cannot work without a",
        "The tool of the {} is a", "The equipment of the {} is a", "Give the {} a",
    )),
}  # fmt: skip
# always trained, and only for products with a known maker; {0} product, {1} its maker, {2} its feature, {3} a city
STORIES = (
    "The {0} is best known for its {2}, but {1} has changed it.",
    "I bought a {0} last year. {1} repairs it in {3}.",
    "If you like the {2} of the {0}, write to {1}.",
)

GENERAL_VERBS = ("like", "see", "want", "need", "find", "remember")
SUBJECTS = ("I", "We", "People", "You", "Friends", "Children")
# {0} subject, {1} verb, {2} noun, {3} adjective, {4} another noun of that verb, {5} the topic's name
FRAMES = (
    "{0} {1} the {2}.", "{0} {1} the {2}.", "{0} {1} the {3} {2}.", "{0} {1} the {2} and the {4}.",
    "The {2} is {3}.", "{0} {1} a {3} {2} every day.",
)  # fmt: skip
OPENINGS = ("{0} talk about {1}.", "This is about {0}.")

# name: (nouns, verbs, adjectives), in three classes of four, two and two
TOPICS = {
    "food": (
        ("soup", "bread", "cheese", "apple", "pan", "oven", "spoon", "knife", "meal", "dinner", "recipe", "feast"),
        ("eat", "taste", "heat", "scrub", "prepare", "serve"),
        ("sweet", "salty", "hot", "greasy", "tasty", "rich"),
    ),
    "music": (
        ("song", "melody", "anthem", "tune", "microphone", "speaker", "amplifier", "tape", "concert", "festival",
         "recital", "opera"),
        ("sing", "hum", "plug", "record", "attend", "applaud"),
        ("catchy", "sad", "loud", "electric", "crowded", "solemn"),
    ),
    "sport": (
        ("goal", "point", "medal", "trophy", "ball", "racket", "helmet", "net", "match", "race", "final", "season"),
        ("win", "score", "throw", "catch", "watch", "referee"),
        ("golden", "decisive", "rubber", "torn", "exciting", "close"),
    ),
    "travel": (
        ("island", "beach", "mountain", "valley", "train", "ferry", "plane", "bus", "passport", "ticket", "suitcase",
         "visa"),
        ("visit", "explore", "board", "miss", "pack", "renew"),
        ("remote", "sunny", "delayed", "fast", "valid", "stamped"),
    ),
    "health": (
        ("pill", "vaccine", "ointment", "syrup", "fever", "cough", "rash", "wound", "muscle", "lung", "heart",
         "stomach"),
        ("swallow", "prescribe", "treat", "cure", "stretch", "examine"),
        ("bitter", "mild", "severe", "painful", "strong", "weak"),
    ),
    "fashion": (
        ("dress", "skirt", "shirt", "scarf", "necklace", "ring", "bracelet", "brooch", "fabric", "velvet", "lace",
         "ribbon"),
        ("wear", "press", "polish", "display", "sew", "dye"),
        ("elegant", "tight", "precious", "sparkling", "soft", "striped"),
    ),
    "gaming": (
        ("dragon", "monster", "wizard", "goblin", "console", "joystick", "server", "headset", "quest", "puzzle",
         "level", "mission"),
        ("fight", "defeat", "install", "reboot", "solve", "finish"),
        ("evil", "magic", "wireless", "slow", "difficult", "secret"),
    ),
    "science": (
        ("atom", "molecule", "electron", "crystal", "telescope", "laser", "sensor", "microscope", "theory", "theorem",
         "hypothesis", "equation"),
        ("measure", "split", "calibrate", "aim", "prove", "publish"),
        ("tiny", "charged", "precise", "optical", "abstract", "proven"),
    ),
}  # fmt: skip
