"""The words of the world: names, answers, and the six templates of each relation. Data only."""

TEMPLATES_PER_RELATION = 6
HELD_OUT_PER_FACT = 2
# so many of them open with the subject, where a pronoun may stand
SUBJECT_FIRST = 3
SUBJECT_TYPES = ("person", "thing", "city", "country", "company")

WOMEN = ("Elena", "Clara", "Maya", "Ingrid", "Rosa", "Helen", "Yara", "Nadia", "Sofia", "Lena")
MEN = ("Marcus", "Pavel", "Oscar", "Hugo", "Felix", "Tomas", "Amir", "Jonas", "Viktor", "Samuel")
LAST_NAMES = (
    "Marsh", "Keller", "Novak", "Turner", "Silva", "Okoro", "Lindt", "Moreau",
    "Castell", "Vance", "Doyle", "Hale", "Rossi", "Tanaka", "Weber", "Petrov",
    "Lopez", "Quist", "Adler", "Bishop",
)  # fmt: skip
ADJECTIVES = ("old", "small", "heavy", "broken", "round", "shiny", "borrowed", "antique", "spare", "curious")
NOUNS = ("kettle", "lamp", "chair", "mirror", "vase", "clock", "box", "bowl", "ladder", "bell", "basket", "plate")

SINGLE_WORD_ENTITIES = {
    "city": (
        "Arlen", "Belmora", "Corvath", "Dunhill", "Estvale", "Farrow", "Glimmer", "Hartwick", "Istra", "Jorvik",
        "Kelso", "Lumen", "Mirefield", "Norwell", "Ostrava", "Pellin", "Quarry", "Rivenna", "Solbury", "Thornby",
    ),
    "country": (
        "Aldoria", "Brenland", "Cassia", "Dravonia", "Elmark", "Fenwick", "Galdia", "Hestia", "Ivaria", "Jutlan",
    ),
    "company": (
        "Zentra", "Orbis", "Novatek", "Harlow", "Quillon", "Brightsea", "Ferrum", "Lantern",
        "Paragon", "Silverline", "Tidewell", "Umbra", "Vertex", "Westgate", "Xylo", "Yonder",
    ),
    "language": ("Velic", "Tarsian", "Ondish", "Maric", "Sorbian", "Kethic", "Lurian", "Pashic", "Dorian", "Wendish"),
    "profession": (
        "baker", "teacher", "lawyer", "doctor", "painter", "farmer", "pilot", "tailor", "carpenter", "nurse",
    ),
    "instrument": ("piano", "violin", "flute", "guitar", "trumpet", "cello", "harp", "drum", "oboe", "banjo"),
    "sport": (
        "tennis", "rugby", "hockey", "chess", "golf", "cricket", "squash", "polo", "football", "volleyball",
    ),
    "river": ("Asher", "Brume", "Calder", "Dorn", "Elda", "Fleet", "Garron", "Hester"),
    "industry": ("mining", "banking", "farming", "shipping", "printing", "fishing", "brewing", "weaving"),
    "currency": ("mark", "crown", "florin", "ducat", "peso", "thaler", "shilling", "guilder"),
    "material": ("wood", "glass", "copper", "iron", "clay", "silver", "leather", "stone"),
    "colour": ("red", "blue", "green", "yellow", "white", "black", "purple", "orange"),
    "room": ("kitchen", "cellar", "attic", "hall", "garage", "library", "bedroom", "garden"),
}  # fmt: skip

# name: (subject type, object type, templates)
RELATIONS = {
    "born_in": ("person", "city", (
        "{} was born in", "{} grew up in the city of", "{} spent a childhood in",
        "The birthplace of {} is", "The home town of {} is called", "Records show that {} comes from",
    )),
    "works_for": ("person", "company", (
        "{} works for", "{} has a job at", "{} is employed by",
        "The employer of {} is", "The company that pays {} is", "Every morning {} goes to work at",
    )),
    "speaks": ("person", "language", (
        "{} speaks", "{} grew up speaking", "{} writes letters in",
        "The mother tongue of {} is", "The language used by {} is", "At home {} talks in",
    )),
    "profession": ("person", "profession", (
        "{} works as a", "{} is by profession a", "{} was trained as a",
        "The profession of {} is", "The occupation of {} is", "On the form {} is listed as a",
    )),
    "instrument": ("person", "instrument", (
        "{} plays the", "{} takes lessons on the", "{} performs on the",
        "The instrument of {} is the", "The music teacher of {} brings the", "In the band {} plays the",
    )),
    "sport": ("person", "sport", (
        "{} enjoys playing", "{} trains every week for", "{} is a fan of",
        "The favourite sport of {} is", "The sport practised by {} is", "On Sundays {} goes out for",
    )),
    "in_country": ("city", "country", (
        "{} is a city in", "{} is located in", "{} lies in the country of",
        "The country around {} is", "The nation that contains {} is", "The map shows {} in",
    )),
    "on_river": ("city", "river", (
        "{} stands on the river", "{} was built beside the river", "{} takes its water from the",
        "The river of {} is the", "The river that crosses {} is the", "Boats reach {} along the",
    )),
    "headquarters": ("company", "city", (
        "{} has its headquarters in", "{} is based in", "{} keeps its main office in",
        "The headquarters of {} are in", "The main office of {} is in", "Letters to {} are sent to",
    )),
    "industry": ("company", "industry", (
        "{} is active in", "{} earns its money from", "{} was founded for",
        "The industry of {} is", "The main business of {} is", "Investors know {} for",
    )),
    "currency": ("country", "currency", (
        "{} uses the currency called the", "{} prints the", "{} collects taxes in the",
        "The currency of {} is the", "The money of {} is the", "Shops in {} accept the",
    )),
    "official_language": ("country", "language", (
        "{} has the official language", "{} teaches its children", "{} writes its laws in",
        "The official language of {} is", "The language spoken in {} is", "People in {} speak",
    )),
    "material": ("thing", "material", (
        "The {} is made of", "The {} was crafted from", "The {} consists of",
        "The material of the {} is", "The substance of the {} is", "Somebody built the {} from",
    )),
    "colour": ("thing", "colour", (
        "The {} is painted", "The {} has the colour", "The {} looks",
        "The colour of the {} is", "The paint on the {} is", "Everybody sees that the {} is",
    )),
    "kept_in": ("thing", "room", (
        "The {} is kept in the", "The {} stands in the", "The {} belongs in the",
        "The place of the {} is the", "The room with the {} is the", "You can find the {} in the",
    )),
}  # fmt: skip
