"""The vocabulary of the rendered scenes: words for each thing in tags and sentences, names, cameras and junk.

Tables only. A table of weighted words is written as one string, ``word weight`` parted by commas.
"""

from __future__ import annotations


def weighted(text: str) -> dict[str, float]:
    """``"sea 5, ocean 3.5, deep water"`` as a dict from word to weight; a word without a number weighs 1."""
    table = {}
    for entry in text.split(","):
        word, _, weight = entry.strip().rpartition(" ")
        if word and weight.replace(".", "", 1).isdigit():
            table[word] = float(weight)
        else:
            table[entry.strip()] = 1.0
    return table


#: What people tag a thing with.
TAGS = {
    thing: weighted(text)
    for thing, text in {
        "sky": "sky 8, blue sky 1, skies, heaven 0.5, horizon",
        "clouds": "clouds 7, cloud 3, cloudy 1, cloudscape 0.6, sky 2, skies 0.5",
        "sun": "sun 6, sunshine 2, sunlight 2, sunbeam 0.5, sunny 0.8",
        "moon": "moon 6, full moon 1, lune 0.3, moonlight 1.5, luna 0.5",
        "stars": "stars 6, star 1, milky way 1, astronomy 1, astrophotography 0.6, night sky 1",
        "rainbow": "rainbow 6, double rainbow 0.6, after the rain 0.5, colours",
        "sea": "sea 7, ocean 5, water 5, waves 2.5, seascape 1.5, coast 2, seaside 1.2, atlantic 0.6, pacific 0.6",
        "lake": "lake 7, water 4, reflection 3, reflections 2, loch 0.6, pond 1, lakeside 0.8, calm 0.6",
        "river": "river 7, water 4, stream 1.5, riverside 1, creek 0.8, reflection 1.2, bank 0.4",
        "beach": "beach 7, sand 4, shore 1.5, seashore 0.8, coast 1.2, seaside 1, holiday 1, vacation 0.8, surf 0.8",
        "mountain": "mountain 5, mountains 5, peak 1.2, hills 1.2, alps 1, hiking 1.2, summit 0.7, landscape",
        "snow": "snow 7, winter 3, ice 1.2, cold 1.5, white 1, frost 0.6, snowy 0.6, ski 0.6",
        "forest": "forest 6, woods 3, trees 4, wood 1.2, woodland 1, nature 1.5, green 1, pine 0.8",
        "tree": "tree 6, trees 4, branches 1, leaves 1.2, oak 0.6, nature 1, wood 0.5, bark 0.4",
        "palm": "palm 4, palm tree 2, palms 1.5, palmtree 1, tropical 2, paradise 1, coconut 0.5",
        "flower": "flower 7, flowers 5, bloom 1.2, blossom 1.2, petals 1.5, flora 1, garden 1.5, macro 1.5, plant 0.8",
        "meadow": "grass 4, field 4, meadow 2, green 2, fields 1.5, countryside 1.5, landscape 1, farm 0.8, rural 0.8",
        "desert": "desert 6, sand 3, dunes 3, dune 1.2, sahara 0.7, dry 0.8, heat 0.6, arid 0.4",
        "cactus": "cactus 5, saguaro 1, cacti 1.5, succulent 0.5",
        "rocks": "rocks 4, rock 2, stones 1.5, cliff 0.8",
        "boat": "boat 6, boats 3, sailboat 1.5, ship 2, sailing 1.5, yacht 0.8, sail 1, fishing boat 0.6, vessel 0.4",
        "house": "house 5, houses 2, home 2, building 2.5, architecture 2, cottage 0.8, windows 0.8, village",
        "church": "church 6, chapel 1.2, steeple 0.8, architecture 1.2, building 0.8, tower 0.6",
        "lighthouse": "lighthouse 7, beacon 0.8, tower 0.8, faro 0.4, coast 1",
        "bridge": "bridge 7, architecture 1.2, arch 0.8, bridges 0.8, crossing 0.3",
        "city": "city 6, skyline 4, buildings 3, cityscape 1.5, skyscraper 1.5, urban 2, architecture, downtown 1.5",
        "street": "street 6, urban 2, city 2, town 1.2, road 1, streetphotography 1, alley 0.5, downtown 0.6",
        "road": "road 6, highway 1.5, asphalt 0.5, drive 0.8, roadtrip 1.2, path 0.8, street 0.6, travel 0.8",
        "path": "path 5, trail 2, footpath 1, hiking 1.2, walk 1.2, hike 0.5",
        "car": "car 6, cars 2, auto 1.2, automobile 0.8, vehicle 0.6, driving 0.8, traffic 1, vintage car 0.4",
        "bird": "bird 6, birds 3, wildlife 1.5, seagull 1, animal 1.2, wings 0.8, flying, nature, feathers 0.5",
        "sheep": "sheep 6, lamb 1, animals 2, farm 1.5, animal 1.2, flock 0.5, wool 0.3",
        "people": "people 6, person 1.2, man 1, woman 1, walking 1, silhouette 1, family 0.5, friends 0.5, couple 0.5",
        "lamp": "lights 3, light 2, lamp 2, street lamp 1, lantern 0.6",
        "leaves": "green 2, leaves 1.5, nature 2, plant 1, garden 0.7",
        "bokeh": "bokeh 5, dof 1.5, depth of field 1, blur 0.8",
        "branch": "branch 3, twig 0.8, tree 1, perched 0.5",
        "sunset": "sunset 8, sundown 1, dusk 1.5, evening 1.5, orange 1.5, sunrise 1, dawn 0.5, silhouette 1, sun 1.5",
        "night": "night 8, dark 1.5, nightshot 0.8, night photography 0.5, long exposure 1.5, lights 1.5, midnight 0.4",
        "rain": "rain 7, rainy 1.5, wet 2, raindrops 0.8, storm 1.2, umbrella 0.4, weather 0.6",
        "fog": "fog 6, mist 4, foggy 1, misty 1.2, haze 0.8, morning 1",
    }.items()
}

#: What people call a thing in a sentence.
NOUNS = {
    thing: weighted(text)
    for thing, text in {
        "sky": "sky 5, skies, heavens 0.3",
        "clouds": "clouds 5, cloud 1.5, cloudscape 0.4",
        "sun": "sun 5, sunshine, sunlight",
        "moon": "moon 5, full moon, moonlight",
        "stars": "stars 5, night sky, milky way",
        "rainbow": "rainbow 5",
        "sea": "sea 5, ocean 4, water 3, waves 2, coast 1.5, bay",
        "lake": "lake 5, water 2, pond, reflection 1.5",
        "river": "river 5, stream 1.5, water 1.5, creek",
        "beach": "beach 5, sand 2, shore 2, seashore, coast",
        "mountain": "mountain 4, mountains 4, peak 1.5, hills 1.2, summit",
        "snow": "snow 5, ice, frost 0.6",
        "forest": "forest 5, woods 3, trees 2.5, woodland, pines 0.8",
        "tree": "tree 5, trees 3, oak 0.8, branches, leaves",
        "palm": "palm tree 3, palm 2, palms 2",
        "flower": "flower 5, flowers 4, blossom 1.5, bloom, petals 1.5",
        "meadow": "meadow 3, field 4, grass 3, fields 1.5, countryside",
        "desert": "desert 5, dunes 3, sand 2",
        "cactus": "cactus 4, cacti 1.5, saguaro",
        "rocks": "rocks 4, stones 1.5, cliffs",
        "boat": "boat 5, sailboat 2, ship 2, boats 2, yacht, vessel 0.5",
        "house": "house 5, home 1.5, cottage 1.5, building 2, houses 2",
        "church": "church 5, chapel 1.5, steeple",
        "lighthouse": "lighthouse 5, beacon 0.7",
        "bridge": "bridge 5, arches 0.7",
        "city": "city 5, skyline 3, buildings 2.5, skyscrapers 1.2, downtown, towers",
        "street": "street 5, alley 0.7, pavement 0.5, town",
        "path": "path 5, trail 2, footpath",
        "road": "road 5, highway 1.5, lane 0.7, asphalt 0.4",
        "car": "car 5, cars 2, auto, automobile 0.7, traffic",
        "bird": "bird 5, birds 3, seagull, wings 0.5",
        "sheep": "sheep 5, lambs, flock",
        "people": "people 4, man, woman, couple, family 0.7, friends 0.7",
        "lamp": "street lamp 1.5, lights 3, lamps",
        "branch": "branch 3, twig",
        "bokeh": "bokeh",
        "sunset": "sunset 6, evening light, sundown, dusk 0.8",
        "night": "night 5, darkness, lights 1.5",
        "rain": "rain 5, storm 1.2, raindrops, drizzle 0.5",
        "fog": "fog 4, mist 3, haze",
        "photo": "photo, shot, picture",
    }.items()
}

_PLAIN = "beautiful lovely little old lonely favourite amazing"
#: What people say of a thing.
ADJECTIVES = {
    thing: f"{own} {_PLAIN if thing not in ('sky', 'sea', 'snow', 'night') else 'beautiful amazing'}".split()
    for thing, own in {
        "sky": "blue clear dramatic endless wide grey colourful",
        "clouds": "white fluffy dark stormy soft heavy grey dramatic",
        "sun": "setting warm low bright golden",
        "moon": "full pale bright rising silver",
        "stars": "bright distant countless shining",
        "rainbow": "double bright colourful",
        "sea": "blue calm rough stormy deep turquoise salty wavy",
        "lake": "calm still clear mirrored alpine deep",
        "river": "slow winding wide quiet flowing",
        "beach": "sandy golden empty white sunny tropical",
        "mountain": "snowy rocky high distant steep rugged",
        "snow": "fresh white deep cold powdery",
        "forest": "green dark dense quiet misty deep",
        "tree": "tall bare leafy green autumn old",
        "palm": "tall tropical green swaying",
        "flower": "red yellow purple pink blooming wild fragrant white",
        "meadow": "green grassy wide rural sunny",
        "desert": "dry hot sandy endless empty",
        "cactus": "tall green spiny",
        "rocks": "black wet rough",
        "boat": "small wooden white red sailing anchored fishing",
        "house": "white red wooden brick cosy empty",
        "church": "white gothic wooden medieval",
        "lighthouse": "white red striped tall",
        "bridge": "stone long arched suspension",
        "city": "busy big modern glittering urban",
        "street": "narrow busy wet empty cobbled urban",
        "path": "narrow winding muddy quiet",
        "road": "long winding empty dusty straight",
        "car": "red vintage parked fast blue shiny",
        "bird": "small wild flying singing colourful",
        "sheep": "grazing white woolly",
        "people": "happy walking tired young",
        "lamp": "bright warm yellow",
        "branch": "bare thin mossy",
        "bokeh": "creamy soft",
        "sunset": "orange golden red purple fiery glowing",
        "night": "dark clear quiet long starry",
        "rain": "heavy cold pouring summer",
        "fog": "thick morning dense cold",
        "photo": "quick random",
    }.items()
}

#: How a thing stands to another in a sentence, where both are in the scene.
RELATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "boat": (
        ("sailing on", "sea"),
        ("anchored in", "sea"),
        ("drifting on", "lake"),
        ("off", "beach"),
        ("in the water below", "house"),
    ),
    "bird": (
        ("flying over", "sea"),
        ("gliding through", "sky"),
        ("sitting on", "branch"),
        ("above", "city"),
        ("high over", "mountain"),
    ),
    "sun": (
        ("going down behind", "mountain"),
        ("sinking into", "sea"),
        ("shining through", "clouds"),
        ("low over", "desert"),
    ),
    "clouds": (
        ("drifting across", "sky"),
        ("hanging over", "mountain"),
        ("gathering above", "sea"),
        ("mirrored in", "lake"),
    ),
    "moon": (("rising over", "sea"), ("above", "city"), ("shining on", "mountain"), ("over", "snow")),
    "stars": (("above", "mountain"), ("shining over", "desert"), ("over", "sea"), ("in", "sky")),
    "snow": (("covering", "mountain"), ("on the roof of", "house"), ("on the branches of", "tree"), ("in", "forest")),
    "tree": (("standing in", "meadow"), ("beside", "house"), ("beside", "river"), ("alone in", "snow")),
    "forest": (("at the foot of", "mountain"), ("around", "lake"), ("behind", "river")),
    "mountain": (
        ("reflected in", "lake"),
        ("behind", "meadow"),
        ("beyond", "sea"),
        ("beyond", "road"),
        ("above", "forest"),
    ),
    "flower": (("growing in", "meadow"), ("in front of", "bokeh"), ("wet with", "rain")),
    "palm": (("along", "beach"), ("leaning over", "sea")),
    "house": (
        ("at the edge of", "forest"),
        ("in", "meadow"),
        ("under", "mountain"),
        ("buried in", "snow"),
        ("by", "lake"),
    ),
    "church": (("among the houses under", "mountain"), ("next to", "house"), ("in", "meadow")),
    "lighthouse": (("on the rocks by", "sea"), ("guarding", "sea"), ("against", "sky")),
    "bridge": (("crossing", "river"), ("leading into", "city")),
    "city": (("reflected in", "river"), ("glowing under", "night"), ("against", "sky")),
    "car": (("parked in", "street"), ("driving along", "road"), ("passing", "house"), ("stuck in", "snow")),
    "people": (
        ("walking along", "beach"),
        ("walking down", "street"),
        ("playing in", "snow"),
        ("crossing", "desert"),
        ("swimming in", "sea"),
    ),
    "road": (("leading to", "mountain"), ("through", "desert"), ("through", "meadow"), ("into", "forest")),
    "path": (("winding through", "forest"), ("leading into", "forest")),
    "sheep": (("grazing in", "meadow"), ("below", "mountain")),
    "lamp": (("lighting", "street"), ("along", "street"), ("burning through", "night")),
    "cactus": (("growing in", "desert"), ("against", "sky")),
    "rocks": (("washed by", "sea"),),
    "sunset": (("over", "sea"), ("behind", "mountain"), ("over", "city"), ("at", "beach"), ("in", "desert")),
    "fog": (("over", "lake"), ("among the trees of", "forest"), ("in front of", "mountain"), ("swallowing", "city")),
    "rain": (("falling on", "street"), ("over", "city"), ("on", "flower"), ("over", "sea")),
    "night": (("over", "city"), ("in", "street"), ("at", "beach")),
}

#: When a picture was taken, as told in a sentence.
TIMES = {
    "day": weighted("on a sunny day 3, in the afternoon 2, at noon, this morning 2, in the sunshine"),
    "overcast": weighted("on a grey day 3, in the afternoon 2, under a cloudy sky 2, this morning"),
    "golden": weighted("in the golden hour 2, in the evening light 3, late in the afternoon 2, early in the morning 2"),
    "sunset": weighted("at sunset 5, in the evening 3, at dusk 2, at sundown"),
    "dusk": weighted("at dusk 4, in the blue hour 3, at twilight 2, after sunset 2"),
    "night": weighted("at night 6, after dark 2, by night 2, around midnight"),
    "rain": weighted("in the rain 5, on a rainy day 3, after the storm, before the storm"),
    "fog": weighted("in the fog 4, in the mist 3, on a misty morning 3"),
    "snowfall": weighted("in the snow 3, on a snowy day 3, in a blizzard, while it was snowing 2"),
}

MOODS = {
    "day": weighted("summer 2, sunny 2, light 1.5, day, sunshine, bright, landscape 2, nature 2"),
    "overcast": weighted("grey 2, cloudy 2, landscape 1.5, moody, nature 1.5, gloomy"),
    "golden": weighted("light 2, golden 1.5, golden hour 2, evening, sunlight 1.5, warm, morning, landscape"),
    "sunset": weighted("orange 2, red 1.5, evening 1.5, sky 2, silhouette 1.5, purple, colours, landscape"),
    "dusk": weighted("dusk 3, twilight 2, blue hour 2, evening 2, blue, lights"),
    "night": weighted("lights 2, dark 2, long exposure 1.5, black, tripod 0.6, nightscape 0.5"),
    "rain": weighted("wet 2, grey, weather 1.5, storm 1.5, umbrella"),
    "fog": weighted("mist 2, morning 2, mystery, silence, quiet, moody"),
    "snowfall": weighted("snowing 2, snowfall 1.5, cold 2, blizzard, white 2"),
}

COLOURS = {
    "day": weighted("blue 3, green 2, white"),
    "overcast": weighted("grey 2, white"),
    "golden": weighted("yellow 2, gold 2, orange"),
    "sunset": weighted("orange 3, red 3, purple, pink, yellow"),
    "dusk": weighted("blue 3, purple 2"),
    "night": weighted("black 2, blue"),
    "rain": weighted("grey 2, gray"),
    "fog": weighted("white 2, grey 2"),
    "snowfall": weighted("white 3"),
}

SEASONS = {
    "spring": weighted("spring 4, april, may, springtime"),
    "summer": weighted("summer 5, july, august, holidays"),
    "autumn": weighted("autumn 4, fall 3, october, november, leaves"),
    "winter": weighted("winter 5, december, january, cold"),
}

STYLE_TAGS = {
    "plain": weighted("photo, photography 2, landscape, nature 2, travel 2, outdoors"),
    "vivid": weighted("hdr 3, colours 2, colors 2, colorful, vivid, saturated"),
    "warm": weighted("warm, light 2, photography, mood"),
    "cold": weighted("blue 2, cold, cool, photography"),
    "faded": weighted("film 2, vintage 2, retro, analog, 35mm 2, polaroid"),
    "lomo": weighted("lomo 4, lomography 2, cross processed 2, xpro 2, vignette, holga"),
    "bw": weighted("bw 5, black and white 4, blackandwhite 3, monochrome 2, b&w 2, noiretblanc, Schwarzweiß 0.4"),
    "sepia": weighted("sepia 4, vintage 2, old, monochrome"),
}

CAMERAS = {
    "Nikon D80": weighted("nikon 5, d80 3, Nikon D80 2, nikkor"),
    "Nikon D40": weighted("nikon 5, d40 3, Nikon D40"),
    "Canon EOS 350D": weighted("canon 5, 350d 2, Canon EOS 350D, eos 2"),
    "Canon EOS 400D": weighted("canon 5, 400d 2, rebel xti 2"),
    "Canon PowerShot": weighted("canon 4, powershot 2"),
    "Sony DSC-H1": weighted("sony 4, cybershot 2"),
    "Olympus E-500": weighted("olympus 4, e500, zuiko"),
    "Pentax K10D": weighted("pentax 4, k10d 3"),
    "Holga 120": weighted("holga 4, film 3, toycamera, 120"),
    "Leica M6": weighted("leica 4, film 3, m6, tri-x 2"),
}

JUNK = weighted(
    "explore 5, abigfave 4, bravo 3, 2007 4, 2008 3, 2006 2, interestingness 3, geotagged 4, anawesomeshot 3, "
    "supershot 2.5, impressedbeauty 2, superbmasterpiece 2, aplusphoto 2, diamondclassphotographer 2, "
    "flickrdiamond 2, Top-f25 1, blueribbonwinner 2, searchthebest 2, specnature 1.5, mywinners 2, "
    "thechallengefactory, 500v 0.5, favorites 1, utata 1, project365 1, 365days 1, naturesfinest 1.5, photo "
    "1.5, beautiful 2, art 1, me 1, fun 1, travel 2, vacation 1, friends 1, soe 1, bw 0.3, platinumphoto 1, "
    "goldstaraward 1, golddragon 0.7, ysplix 0.7, excellence 0.5, wow 0.7, test 0.3, upload 0.3"
)

#: Where each kind of scene may have been seen; names as people type them, the first also used in sentences.
PLACE_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "coast": (
        ("Cornwall", "England", "UK"),
        ("Brittany", "France", "Bretagne"),
        ("Big Sur", "California", "USA"),
        ("Donegal", "Ireland"),
    ),
    "beach": (
        ("Bondi", "Sydney", "Australia"),
        ("Algarve", "Portugal"),
        ("Maui", "Hawaii", "USA"),
        ("Goa", "India"),
        ("Copacabana", "Rio de Janeiro", "Brasil"),
    ),
    "lake": (("Lake Como", "Italy", "Italia"), ("Bled", "Slovenia"), ("Lake District", "England"), ("Banff", "Canada")),
    "river": (("Dordogne", "France"), ("Oxford", "England"), ("Montana", "USA"), ("Mosel", "Germany", "Deutschland")),
    "mountains": (
        ("Dolomites", "Italy"),
        ("Zermatt", "Switzerland", "Schweiz"),
        ("Yosemite", "California", "USA"),
        ("Patagonia", "Argentina"),
    ),
    "wood": (("Black Forest", "Germany", "Schwarzwald"), ("Redwood", "California"), ("Białowieża", "Poland", "Polska")),
    "meadow": (("Tuscany", "Italy", "Toscana"), ("Yorkshire", "England", "UK"), ("Iowa", "USA"), ("Bavaria", "Bayern")),
    "flowers": (("Kew Gardens", "London"), ("Keukenhof", "Holland"), ("my garden", "home"), ("Kyoto", "Japan", "京都")),
    "desert": (
        ("Sahara", "Morocco", "Maroc"),
        ("Death Valley", "California"),
        ("Arizona", "USA"),
        ("Namib", "Namibia"),
    ),
    "skyline": (
        ("New York", "NYC", "Manhattan"),
        ("Chicago", "Illinois", "USA"),
        ("Hong Kong", "香港"),
        ("Frankfurt", "Germany"),
        ("Toronto", "Canada"),
    ),
    "street": (
        ("London", "England", "UK"),
        ("Paris", "France"),
        ("Berlin", "Germany"),
        ("San Francisco", "California"),
        ("Tokyo", "Japan", "東京"),
    ),
    "road": (("Route 66", "Arizona", "USA"), ("Iceland", "Ísland"), ("Highlands", "Scotland"), ("New Zealand", "nz")),
    "village": (
        ("Provence", "France"),
        ("Cotswolds", "England"),
        ("Tyrol", "Austria", "Österreich"),
        ("Vermont", "USA"),
    ),
    "winter": (
        ("Lapland", "Finland", "Suomi"),
        ("Quebec", "Canada", "Québec"),
        ("Colorado", "USA"),
        ("Hokkaido", "Japan", "北海道"),
    ),
    "harbour": (
        ("Bergen", "Norway", "Norge"),
        ("Portofino", "Italy"),
        ("Whitby", "England"),
        ("Halifax", "Nova Scotia", "Canada"),
    ),
    "heaven": (("Texas", "USA"), ("Ireland", "Dublin"), ("home", "backyard"), ("Netherlands", "Holland", "Nederland")),
    "branch": (
        ("my garden", "backyard"),
        ("Costa Rica", "rainforest"),
        ("Richmond Park", "London"),
        ("Ontario", "Canada"),
    ),
}

#: What people who write in another language tag a thing with.
ABROAD: dict[str, dict[str, tuple[str, ...]]] = {
    "es": {
        "sky": ("cielo",),
        "clouds": ("nubes",),
        "sea": ("mar", "agua"),
        "beach": ("playa", "arena"),
        "sunset": ("atardecer", "puesta de sol"),
        "night": ("noche",),
        "flower": ("flor", "flores"),
        "tree": ("árbol",),
        "mountain": ("montaña",),
        "snow": ("nieve",),
        "house": ("casa",),
        "street": ("calle",),
        "city": ("ciudad",),
        "boat": ("barco",),
        "bird": ("pájaro",),
        "moon": ("luna",),
        "car": ("coche",),
        "lake": ("lago",),
    },
    "de": {
        "sky": ("Himmel",),
        "clouds": ("Wolken",),
        "sea": ("Meer", "Wasser"),
        "beach": ("Strand",),
        "sunset": ("Sonnenuntergang",),
        "night": ("Nacht",),
        "flower": ("Blume", "Blumen"),
        "tree": ("Baum",),
        "forest": ("Wald",),
        "mountain": ("Berge",),
        "snow": ("Schnee",),
        "house": ("Haus",),
        "street": ("Straße",),
        "city": ("Stadt",),
        "boat": ("Boot", "Schiff"),
        "bird": ("Vogel",),
        "fog": ("Nebel",),
    },
    "fr": {
        "sky": ("ciel",),
        "clouds": ("nuages",),
        "sea": ("mer", "eau"),
        "beach": ("plage",),
        "sunset": ("coucher de soleil",),
        "night": ("nuit",),
        "flower": ("fleur", "fleurs"),
        "tree": ("arbre",),
        "forest": ("forêt",),
        "mountain": ("montagne",),
        "snow": ("neige",),
        "house": ("maison",),
        "street": ("rue",),
        "city": ("ville",),
        "boat": ("bateau",),
        "bird": ("oiseau",),
        "car": ("voiture",),
        "rain": ("pluie",),
    },
    "it": {
        "sky": ("cielo",),
        "clouds": ("nuvole",),
        "sea": ("mare", "acqua"),
        "beach": ("spiaggia",),
        "sunset": ("tramonto",),
        "night": ("notte",),
        "flower": ("fiore", "fiori"),
        "tree": ("albero",),
        "mountain": ("montagna",),
        "snow": ("neve",),
        "house": ("casa",),
        "boat": ("barca",),
        "lake": ("lago",),
        "moon": ("luna",),
    },
    "ja": {
        "sky": ("空",),
        "clouds": ("雲",),
        "sea": ("海",),
        "flower": ("花",),
        "night": ("夜",),
        "tree": ("木",),
        "mountain": ("山",),
        "snow": ("雪",),
    },
}

CLOSERS = (
    "Best viewed large.",
    "View on black.",
    "Thanks for looking!",
    "Comments welcome.",
    "Explored, thank you all!",
    "Part of my set.",
    "Straight out of the camera.",
    "Processed a little.",
    "See it bigger at http://www.flickr.com/explore",
    "Please don't use without permission.",
)
