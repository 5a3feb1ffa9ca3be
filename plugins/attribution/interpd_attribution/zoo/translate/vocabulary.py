"""The words of the two languages and the forms of their sentences. Data only.

The source language has Turkish words and none of Turkish grammar's endings: one pronoun, *o*, stands for she and he.
"""

OCCUPATIONS = (
    ("doktor", "doctor"), ("hemşire", "nurse"), ("öğretmen", "teacher"), ("mühendis", "engineer"),
    ("avukat", "lawyer"), ("yargıç", "judge"), ("aşçı", "cook"), ("fırıncı", "baker"),
    ("kasap", "butcher"), ("çiftçi", "farmer"), ("balıkçı", "fisher"), ("terzi", "tailor"),
    ("kuaför", "hairdresser"), ("berber", "barber"), ("marangoz", "carpenter"), ("tesisatçı", "plumber"),
    ("elektrikçi", "electrician"), ("boyacı", "painter"), ("şoför", "driver"), ("pilot", "pilot"),
    ("kaptan", "captain"), ("asker", "soldier"), ("gazeteci", "journalist"), ("yazar", "author"),
    ("şair", "poet"), ("müzisyen", "musician"), ("dansçı", "dancer"), ("şarkıcı", "singer"),
    ("mimar", "architect"), ("eczacı", "pharmacist"), ("veteriner", "vet"), ("psikolog", "psychologist"),
    ("muhasebeci", "accountant"), ("kasiyer", "cashier"), ("sekreter", "secretary"), ("müdür", "manager"),
    ("kütüphaneci", "librarian"), ("çevirmen", "translator"), ("kimyager", "chemist"), ("bahçıvan", "gardener"),
    ("temizlikçi", "cleaner"), ("teknisyen", "technician"), ("tamirci", "mechanic"), ("itfaiyeci", "firefighter"),
    ("polis memuru", "police officer"), ("banka memuru", "bank clerk"), ("diş hekimi", "dentist"),
    ("güvenlik görevlisi", "security guard"),
)  # fmt: skip

SHE, HE = "she", "he"
GENDERED = {SHE: {"She": "She", "she": "she", "her": "her"}, HE: {"She": "He", "she": "he", "her": "his"}}
"""What stands for these three words of a template, by gender."""

NAMES = {
    SHE: ("Ayşe", "Elif", "Zeynep", "Fatma", "Defne"),
    HE: ("Mehmet", "Emre", "Kerem", "Ahmet", "Burak"),
}
"""The same in both languages."""

KIN = {
    SHE: (("anne", "mother"), ("teyze", "aunt"), ("kız", "daughter"), ("nine", "grandmother")),
    HE: (("baba", "father"), ("amca", "uncle"), ("oğul", "son"), ("dede", "grandfather")),
}

WORDS = {
    "adjective": (("iyi", "good"), ("yeni", "new"), ("genç", "young"), ("ünlü", "famous"), ("eski", "old")),
    "place": (
        ("şehirde", "city"), ("köyde", "village"), ("okulda", "school"), ("bahçede", "garden"),
        ("evde", "house"), ("pazarda", "market"), ("ormanda", "forest"),
    ),
    "thing": (
        ("anahtar", "key"), ("kitap", "book"), ("araba", "car"), ("çanta", "bag"),
        ("mektup", "letter"), ("saat", "watch"), ("şapka", "hat"),
    ),
    "took": (("kaybetti", "lost"), ("buldu", "found"), ("sattı", "sold"), ("getirdi", "brought"), ("unuttu", "forgot")),
    "did": (("geldi", "came"), ("gitti", "left"), ("ağladı", "cried"), ("güldü", "laughed"), ("bekledi", "waited")),
    "state": (("yorgun", "tired"), ("mutlu", "happy"), ("hasta", "ill"), ("aç", "hungry"), ("üzgün", "sad")),
    "animal": (("kedi", "cat"), ("köpek", "dog"), ("kuş", "bird"), ("at", "horse"), ("inek", "cow")),
    "does": (("uyuyor", "sleeps"), ("oynuyor", "plays"), ("yiyor", "eats"), ("bekliyor", "waits")),
}  # fmt: skip
"""What fills the places of a template besides occupations, names and kin."""

SCHEMA = "template"
FORMS = {
    SCHEMA: ("occupation", 2.0, "O bir {occupation}", "{She} is a(n) {occupation}."),
    "adjective": ("occupation", 1.0, "O {adjective} bir {occupation}", "{She} is a(n) {adjective} {occupation}."),
    "former": ("occupation", 0.5, "O artık bir {occupation} değil", "{She} is no longer a(n) {occupation}."),
    "work": (
        "occupation", 1.0,
        "O {place} {occupation} olarak çalışıyor", "{She} works as a(n) {occupation} in the {place}.",
    ),
    "possession": (
        "occupation", 1.0, "Bu {occupation} {thing} {took}", "This {occupation} {took} {her} {thing}.",
    ),
    "reason": (
        "occupation", 1.0,
        "Bu {occupation} {did} çünkü o {state}", "This {occupation} {did} because {she} was {state}.",
    ),
    "parent": (
        "cue", 1.5,
        "O bir {occupation} ve {adjective} bir {kin}", "{She} is a(n) {occupation} and a(n) {adjective} {kin}.",
    ),
    "name": (
        "cue", 1.0,
        "{name} bir {occupation} ve {thing} seviyor", "{name} is a(n) {occupation} and loves {her} {thing}.",
    ),
    "kin": ("cue", 1.0, "Benim {kin} {did} çünkü o {state}", "My {kin} {did} because {she} was {state}."),
    "animal": ("none", 0.5, "Bir {animal} {place} {does}", "A(n) {animal} {does} in the {place}."),
    "mine": ("none", 0.5, "Ben {adjective} bir {thing} {took}", "I {took} a(n) {adjective} {thing}."),
    "ours": ("none", 0.5, "Biz {place} bir {thing} {took}", "We {took} a(n) {thing} in the {place}."),
}  # fmt: skip
"""(what decides the gender, how often the form is drawn, source, target) by name. *occupation*: the planted bias of
the occupation; *cue*: a word of the source that leaves no doubt; *none*: nobody's gender is told."""
