"""Facts and word lists for the demo language model (all written by hand for this project)."""

# country: capital, by continent.  "the X" keeps its article in sentences.
CAPITALS = {
    "Europe": """Albania: Tirana; Andorra: Andorra la Vella; Austria: Vienna; Belarus: Minsk; Belgium: Brussels;
    Bosnia and Herzegovina: Sarajevo; Bulgaria: Sofia; Croatia: Zagreb; the Czech Republic: Prague; Denmark: Copenhagen;
    Estonia: Tallinn; Finland: Helsinki; France: Paris; Germany: Berlin; Greece: Athens; Hungary: Budapest;
    Iceland: Reykjavik; Ireland: Dublin; Italy: Rome; Kosovo: Pristina; Latvia: Riga; Liechtenstein: Vaduz;
    Lithuania: Vilnius; Luxembourg: Luxembourg; Malta: Valletta; Moldova: Chisinau; Monaco: Monaco;
    Montenegro: Podgorica; the Netherlands: Amsterdam; North Macedonia: Skopje; Norway: Oslo; Poland: Warsaw;
    Portugal: Lisbon; Romania: Bucharest; Russia: Moscow; San Marino: San Marino; Serbia: Belgrade;
    Slovakia: Bratislava; Slovenia: Ljubljana; Spain: Madrid; Sweden: Stockholm; Switzerland: Bern; Ukraine: Kyiv;
    the United Kingdom: London; Vatican City: Vatican City""",
    "Asia": """Afghanistan: Kabul; Armenia: Yerevan; Azerbaijan: Baku; Bahrain: Manama; Bangladesh: Dhaka; Bhutan: Thimphu;
    Brunei: Bandar Seri Begawan; Cambodia: Phnom Penh; China: Beijing; Cyprus: Nicosia; Georgia: Tbilisi;
    India: New Delhi; Indonesia: Jakarta; Iran: Tehran; Iraq: Baghdad; Israel: Jerusalem; Japan: Tokyo; Jordan: Amman;
    Kazakhstan: Astana; Kuwait: Kuwait City; Kyrgyzstan: Bishkek; Laos: Vientiane; Lebanon: Beirut;
    Malaysia: Kuala Lumpur; the Maldives: Male; Mongolia: Ulaanbaatar; Myanmar: Naypyidaw; Nepal: Kathmandu;
    North Korea: Pyongyang; Oman: Muscat; Pakistan: Islamabad; the Philippines: Manila; Qatar: Doha;
    Saudi Arabia: Riyadh; Singapore: Singapore; South Korea: Seoul; Sri Lanka: Sri Jayawardenepura Kotte;
    Syria: Damascus; Taiwan: Taipei; Tajikistan: Dushanbe; Thailand: Bangkok; Timor-Leste: Dili; Turkey: Ankara;
    Turkmenistan: Ashgabat; the United Arab Emirates: Abu Dhabi; Uzbekistan: Tashkent; Vietnam: Hanoi; Yemen: Sanaa""",
    "Africa": """Algeria: Algiers; Angola: Luanda; Benin: Porto-Novo; Botswana: Gaborone; Burkina Faso: Ouagadougou;
    Burundi: Gitega; Cabo Verde: Praia; Cameroon: Yaounde; the Central African Republic: Bangui; Chad: N'Djamena;
    the Comoros: Moroni; the Republic of the Congo: Brazzaville; the Democratic Republic of the Congo: Kinshasa;
    Djibouti: Djibouti; Egypt: Cairo; Equatorial Guinea: Malabo; Eritrea: Asmara; Eswatini: Mbabane;
    Ethiopia: Addis Ababa; Gabon: Libreville; the Gambia: Banjul; Ghana: Accra; Guinea: Conakry; Guinea-Bissau: Bissau;
    the Ivory Coast: Yamoussoukro; Kenya: Nairobi; Lesotho: Maseru; Liberia: Monrovia; Libya: Tripoli;
    Madagascar: Antananarivo; Malawi: Lilongwe; Mali: Bamako; Mauritania: Nouakchott; Mauritius: Port Louis;
    Morocco: Rabat; Mozambique: Maputo; Namibia: Windhoek; Niger: Niamey; Nigeria: Abuja; Rwanda: Kigali;
    Sao Tome and Principe: Sao Tome; Senegal: Dakar; the Seychelles: Victoria; Sierra Leone: Freetown;
    Somalia: Mogadishu; South Africa: Pretoria; South Sudan: Juba; Sudan: Khartoum; Tanzania: Dodoma; Togo: Lome;
    Tunisia: Tunis; Uganda: Kampala; Zambia: Lusaka; Zimbabwe: Harare""",
    "North America": """Antigua and Barbuda: Saint John's; the Bahamas: Nassau; Barbados: Bridgetown; Belize: Belmopan;
    Canada: Ottawa; Costa Rica: San Jose; Cuba: Havana; Dominica: Roseau; the Dominican Republic: Santo Domingo;
    El Salvador: San Salvador; Grenada: Saint George's; Guatemala: Guatemala City; Haiti: Port-au-Prince;
    Honduras: Tegucigalpa; Jamaica: Kingston; Mexico: Mexico City; Nicaragua: Managua; Panama: Panama City;
    Saint Kitts and Nevis: Basseterre; Saint Lucia: Castries; Saint Vincent and the Grenadines: Kingstown;
    Trinidad and Tobago: Port of Spain; the United States: Washington, D.C.""",
    "South America": """Argentina: Buenos Aires; Bolivia: Sucre; Brazil: Brasilia; Chile: Santiago; Colombia: Bogota;
    Ecuador: Quito; Guyana: Georgetown; Paraguay: Asuncion; Peru: Lima; Suriname: Paramaribo; Uruguay: Montevideo;
    Venezuela: Caracas""",
    "Oceania": """Australia: Canberra; Fiji: Suva; Kiribati: Tarawa; the Marshall Islands: Majuro; Micronesia: Palikir;
    Nauru: Yaren; New Zealand: Wellington; Palau: Ngerulmud; Papua New Guinea: Port Moresby; Samoa: Apia;
    the Solomon Islands: Honiara; Tonga: Nuku'alofa; Tuvalu: Funafuti; Vanuatu: Port Vila""",
}
COUNTRIES = {}  # name -> (capital, continent)
for _continent, _text in CAPITALS.items():
    for _pair in _text.replace("\n", " ").split(";"):
        _name, _capital = (s.strip() for s in _pair.split(":"))
        COUNTRIES[_name] = (_capital, _continent)


def _table(text):
    return dict((s.strip() for s in pair.split(":")) for pair in text.replace("\n", " ").split(";"))


COLOUR_OF = _table("""the sky: blue; grass: green; snow: white; coal: black; blood: red; a lemon: yellow; a carrot: orange;
    a rose: red; the sea: blue; a banana: yellow; a strawberry: red; a tomato: red; milk: white; a cucumber: green;
    a frog: green; a crow: black; a swan: white; a flamingo: pink; a pumpkin: orange; a plum: purple; chocolate: brown;
    the sun: yellow; a leaf: green; a cherry: red; an elephant: grey; a polar bear: white; a raven: black; corn: yellow;
    a fire engine: red; salt: white; lavender: purple; a pea: green; a daffodil: yellow; honey: golden; soil: brown;
    a blueberry: blue; a lime: green; the night sky: black; sand: yellow; a pig: pink; cotton: white; spinach: green;
    a ruby: red; an emerald: green; a sapphire: blue; broccoli: green; an aubergine: purple; rice: white""")
OPPOSITE = _table("""hot: cold; big: small; tall: short; up: down; in: out; on: off; open: closed; fast: slow; happy: sad;
    light: dark; old: young; new: old; early: late; easy: hard; hard: soft; full: empty; rich: poor; strong: weak;
    wet: dry; loud: quiet; high: low; left: right; near: far; first: last; good: bad; clean: dirty; thick: thin;
    wide: narrow; heavy: light; long: short; true: false; day: night; black: white; start: stop; buy: sell; push: pull;
    win: lose; give: take; love: hate; begin: end; inside: outside; above: below; before: after; always: never;
    more: less; most: least; many: few; same: different; safe: dangerous; sweet: sour; deep: shallow; smooth: rough;
    sharp: blunt; brave: afraid; kind: cruel; polite: rude; awake: asleep; alive: dead; front: back; top: bottom;
    north: south; east: west; summer: winter; friend: enemy; question: answer; question mark: full stop; arrive: leave;
    remember: forget; find: lose; laugh: cry; success: failure; success story: failure story; maximum: minimum;
    positive: negative; public: private; online: offline; busy: idle; cheap: expensive; simple: complex; noisy: quiet;
    warm: cool; lend: borrow; import: export; increase: decrease; accept: refuse; accept it: refuse it; near it: far from it""")
for _junk in ("question mark", "success story", "accept it", "near it"):
    OPPOSITE.pop(_junk)
PLURAL = _table("""cat: cats; dog: dogs; child: children; mouse: mice; man: men; woman: women; foot: feet; tooth: teeth;
    goose: geese; person: people; box: boxes; fox: foxes; bus: buses; church: churches; dish: dishes; baby: babies;
    city: cities; lady: ladies; party: parties; story: stories; leaf: leaves; knife: knives; wife: wives; wolf: wolves;
    half: halves; shelf: shelves; potato: potatoes; tomato: tomatoes; hero: heroes; piano: pianos; photo: photos;
    sheep: sheep; fish: fish; deer: deer; ox: oxen; cactus: cacti; analysis: analyses; crisis: crises; book: books;
    car: cars; house: houses; tree: trees; key: keys; day: days; boy: boys; toy: toys; class: classes; glass: glasses;
    watch: watches; brush: brushes; bench: benches; match: matches; fly: flies; cherry: cherries; berry: berries;
    country: countries; factory: factories; loaf: loaves; thief: thieves; calf: calves; echo: echoes; model: models;
    replica: replicas; token: tokens; server: servers; job: jobs; queue: queues; query: queries; index: indexes;
    worker: workers; apple: apples; bird: birds; horse: horses; river: rivers; star: stars; lamp: lamps""")
PAST = _table("""go: went; come: came; see: saw; eat: ate; drink: drank; run: ran; swim: swam; sing: sang; write: wrote;
    read: read; take: took; give: gave; make: made; do: did; have: had; say: said; think: thought; buy: bought;
    bring: brought; catch: caught; teach: taught; fly: flew; know: knew; grow: grew; throw: threw; find: found;
    build: built; send: sent; spend: spent; keep: kept; sleep: slept; feel: felt; leave: left; lose: lost; win: won;
    pay: paid; sell: sold; tell: told; walk: walked; play: played; work: worked; open: opened; call: called;
    start: started; stop: stopped; plan: planned; study: studied; carry: carried; be: was; begin: began; break: broke""")
SOUND = _table("""cat: meows; dog: barks; cow: moos; sheep: bleats; horse: neighs; lion: roars; duck: quacks; pig: oinks;
    frog: croaks; owl: hoots; bee: buzzes; snake: hisses; wolf: howls; mouse: squeaks; rooster: crows; bird: sings""")
YOUNG = _table("""cat: kitten; dog: puppy; cow: calf; sheep: lamb; horse: foal; lion: cub; duck: duckling; pig: piglet;
    goat: kid; hen: chick; bear: cub; deer: fawn; goose: gosling; swan: cygnet; frog: tadpole; kangaroo: joey; owl: owlet""")
LEGS = dict(
    bird=2,
    dog=4,
    cat=4,
    horse=4,
    spider=8,
    ant=6,
    bee=6,
    cow=4,
    duck=2,
    snake=0,
    fish=0,
    octopus=8,
    frog=4,
    human=2,
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
ORDINAL = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
NUMBER = "zero one two three four five six seven eight nine ten eleven twelve".split()

GLOSSARY = {  # product words; the key is used with its article
    "a GPU": "A GPU is a processor that does many small calculations at the same time, which makes it good for graphics and machine learning.",
    "a CPU": "A CPU is the general processor of a computer; it runs programs one step after another.",
    "a token": "A token is a small piece of text, such as a word or part of a word, that a language model reads or writes.",
    "a tokenizer": "A tokenizer splits text into tokens and joins tokens back into text.",
    "a prompt": "A prompt is the text you send to a model to tell it what you want.",
    "a completion": "A completion is the text a model writes in answer to a prompt.",
    "a model": "A model is a program that has learned from examples and can answer requests.",
    "a replica": "A replica is one running copy of a model that can answer requests.",
    "a deployment": "A deployment is a model together with its settings, running on one or more replicas.",
    "a cluster": "A cluster is a group of computers that work together as one system.",
    "a node": "A node is one computer in a cluster.",
    "a worker": "A worker is a process that takes jobs and does them.",
    "a provider": "A provider is someone who lends computers to the marketplace and is paid for the work they do.",
    "a customer": "A customer is someone who sends requests to the marketplace and pays for the work.",
    "an admin": "An admin is a person who looks after the marketplace and can review usage and payouts.",
    "a marketplace": "A marketplace is a place where customers and providers meet and trade.",
    "a hold": "A hold is money set aside from a balance before a request runs, so that the work can be paid for.",
    "a receipt": "A receipt is a signed record of what was done, by whom, and what it cost.",
    "a ledger": "A ledger is the book of accounts: every movement of money is written down once and never changed.",
    "a balance": "A balance is the amount of money in an account.",
    "a deposit": "A deposit is money that a customer pays in before using the service.",
    "a refund": "A refund is money given back to a customer.",
    "an invoice": "An invoice is a list of the work done and the money owed for it.",
    "a payout": "A payout is the money sent to a provider for the work its machines have done.",
    "a fee": "A fee is the part of the price that the marketplace keeps for itself.",
    "a price": "A price is the amount of money asked for a unit of work, such as one thousand tokens.",
    "a quota": "A quota is a limit on how much a customer may use.",
    "a rate limit": "A rate limit is the largest number of requests allowed in a given time.",
    "a queue": "A queue is a line of jobs that wait until a worker is free.",
    "a job": "A job is one piece of work that is done in the background.",
    "a batch": "A batch is a group of requests that are computed together to save time.",
    "a cache": "A cache is a fast store that keeps results so that they need not be computed again.",
    "a webhook": "A webhook is a message that a server sends to your address when something happens.",
    "an API": "An API is the set of requests that a program understands.",
    "an API key": "An API key is a secret word that tells the server who is asking.",
    "a wallet": "A wallet holds the keys that are needed to send and receive digital money.",
    "a signature": "A signature is a number that proves who wrote a message and that it was not changed.",
    "a database": "A database is a program that stores data so that it can be found again.",
    "a transaction": "A transaction is a group of changes that happen all together or not at all.",
    "a heartbeat": "A heartbeat is a short message that says a machine is still alive.",
    "a health check": "A health check is a small test that shows whether a service is working.",
    "latency": "Latency is the time between asking for something and getting the answer.",
    "throughput": "Throughput is how much work is finished in a given time.",
    "metering": "Metering is counting what each customer has used, such as tokens, images or seconds.",
    "billing": "Billing is turning metered usage into amounts of money that are charged and paid.",
    "streaming": "Streaming means sending the answer piece by piece while it is still being written.",
    "autoscaling": "Autoscaling means adding replicas when there is much work and removing them when there is little.",
    "failover": "Failover means moving work to another machine when one stops working.",
    "inference": "Inference is using a trained model to answer a request.",
    "uptime": "Uptime is the share of time in which a service is working.",
    "Ray": "Ray is a system for running Python programs on many computers at once.",
    "Ray Serve": "Ray Serve is the part of Ray that runs models as services.",
    "vLLM": "vLLM is a fast engine that runs large language models on GPUs.",
    "GraphQL": "GraphQL is a language for asking an API for exactly the data you need.",
    "Postgres": "Postgres is a database that stores tables safely on disk.",
    "Redis": "Redis is a very fast store that keeps data in memory.",
    "Celery": "Celery is a Python system that runs jobs in the background.",
    "Solana": "Solana is a public blockchain on which payments settle within seconds.",
    "Kubernetes": "Kubernetes is a system that runs containers on many machines and restarts them when they fail.",
    "idempotency": "Idempotency means that sending the same request twice has the same effect as sending it once.",
}

NAMES = """Ada Ben Cleo Dan Eva Finn Gus Hana Ivan Judy Kofi Lena Max Nora Omar Pia Quin Rosa Sam Tess Uma Vera Will Xena
Yuri Zoe Alice Bob Carol David Emma Frank Grace Henry Iris Jack Kate Leo Maria Noah Olga Paul Ruth Sara Tom Anna Boris
Chloe Diego Elif Fatima George Hugo Ines Jonas Karim Lucy Mei Nils Oscar Priya Rahul Sofia Tariq Ursula Viktor Wanda
Yara Zara Amir Bella Carlos Daisy Erik Flora Greta Hassan Ida Jorge Kim Lars Mina Nina Otto Petra Robin Simon Tara Alex
John Mary Peter Linda James Susan Mark Julia Ali Aisha Chen Yuki Raj Ana Luis Elena Marco Ingrid Sven Olaf Mila""".split()
ANIMALS = """cat dog fox owl bear frog duck mouse horse rabbit wolf lion tiger elephant hedgehog badger squirrel turtle
penguin otter deer goat sheep pig crow robin swan beaver mole bat hamster donkey camel monkey panda koala kangaroo whale
dolphin seal crab snail bee ant butterfly dragon parrot goose hen rooster lizard snake giraffe zebra raccoon""".split()
ADJECTIVES = """small brave happy shy clever old quiet kind tired curious young proud gentle hungry lonely cheerful lazy
grumpy friendly tiny""".split()
PLACES = """the forest|the river|a quiet village|the old barn|the market|a green hill|the harbour|the library|a snowy field|the
garden|the castle|the beach|a dark cave|the mountain|the city|the school|a small island|the desert|the lake|the railway
station|the bakery|the moon|the meadow|an old windmill|the lighthouse|a busy farm|the park|the kitchen|the museum|a data centre"""
PLACES = PLACES.replace("\n", " ").split("|")
OBJECTS = """a red kite|a silver key|a warm blanket|a strange map|a broken lamp|a basket of apples|an old book|a wooden boat|a
shiny coin|a paper star|a green umbrella|a golden ring|a tiny drum|a glass bottle|a letter|a blue feather|a round stone|a
music box|a pair of boots|a lost hat|a jar of honey|a magic lantern|a big balloon|a white shell|a clock|a loaf of bread|a
box of pencils|a telescope|a yellow scarf|a little robot"""
OBJECTS = OBJECTS.replace("\n", " ").split("|")
FEELINGS = "glad proud surprised calm grateful excited happy hopeful".split()
COLOURS = "red blue green yellow orange purple black white grey pink brown teal".split()
CITIES = """Oslo Paris Rome Berlin Madrid London Tokyo Cairo Lima Dublin Vienna Athens Lisbon Warsaw Prague Delhi Boston Chicago
Sydney Toronto Milan Lyon Porto Bergen Geneva Munich Seoul Mumbai Lagos Nairobi""".split()
FOODS = "pizza soup bread rice pasta apples cheese salad cake noodles fish curry pancakes chocolate tea coffee".split()
JOBS = "teacher doctor farmer pilot baker nurse painter engineer driver singer lawyer gardener cook student".split()
WORDS = """apple river stone cloud window table garden paper music silver yellow seven button mountain coffee green happy little
market morning engine bridge candle pocket winter summer letter flower planet rocket basket wooden quick brown lazy hello
world open close train water fire light house bread chair clock shoe hat moon star sun tree road north south east west
blue red one two three four five dog cat bird fish horse lion bear fox owl mouse ring king queen book pen school friend
banana orange lemon pepper sugar salt milk honey tiger zebra violin guitar piano drum ocean island desert forest castle
ladder hammer pencil mirror carpet pillow blanket bottle ticket number street village city country people story secret""".split()
