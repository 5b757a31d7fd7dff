"""The words of the mini world: how each fact may be said, the canonical wording first.

`tell` writes with these phrases and `facts` reads them back, so both always speak the same language.
"""

from vernissage.world.scene import Colour, Kind, Place, Relation, Style, Time

COUNT_WORDS: dict[int, list[str]] = {
    1: ["one", "a", "1", "a single"],
    2: ["two", "2", "a pair of", "two"],
    3: ["three", "3", "three"],
    4: ["four", "4", "four"],
}

PLURAL: dict[Kind, str] = {
    "ball": "balls",
    "boat": "boats",
    "car": "cars",
    "cat": "cats",
    "cup": "cups",
    "fish": "fish",
    "flower": "flowers",
    "heart": "hearts",
    "house": "houses",
    "mushroom": "mushrooms",
    "star": "stars",
    "umbrella": "umbrellas",
}

KIND_SYNONYMS: dict[Kind, list[str]] = {
    "ball": ["ball", "beach ball"],
    "boat": ["boat", "sailing boat", "little ship"],
    "car": ["car", "motor car"],
    "cat": ["cat", "kitty", "kitten"],
    "cup": ["cup", "mug", "coffee cup"],
    "fish": ["fish", "goldfish"],
    "flower": ["flower", "blossom"],
    "heart": ["heart", "love heart"],
    "house": ["house", "cottage"],
    "mushroom": ["mushroom", "toadstool"],
    "star": ["star"],
    "umbrella": ["umbrella", "parasol"],
}

COLOUR_SYNONYMS: dict[Colour, list[str]] = {
    "red": ["red", "bright red"],
    "orange": ["orange"],
    "yellow": ["yellow", "sunny yellow"],
    "green": ["green", "grass-green"],
    "blue": ["blue", "deep blue"],
    "purple": ["purple", "violet"],
    "pink": ["pink", "rosy pink"],
    "white": ["white", "snow-white"],
}

RELATION_PHRASES: dict[Relation, list[str]] = {
    "left of": ["left of", "to the left of", "on the left of"],
    "right of": ["right of", "to the right of", "on the right of"],
    "above": ["above", "over", "up above"],
    "below": ["below", "under", "underneath"],
}

PLACE_PHRASES: dict[Place, list[str]] = {
    "sea": ["at sea", "over the sea", "the sea behind", "ocean waves"],
    "desert": ["in the desert", "desert dunes", "sand dunes behind", "a sandy desert"],
    "forest": ["in a forest", "dark forest trees behind", "a pine forest", "in the woods"],
    "city": ["in the city", "city street", "a city skyline behind", "downtown skyline"],
    "mountains": ["in the mountains", "snowy mountains behind", "mountain peaks", "alpine mountains"],
    "meadow": ["on a meadow", "a green meadow", "grassy meadow hills", "in a grassy field"],
}

TIME_PHRASES: dict[Time, list[str]] = {
    "day": ["by day", "in bright daylight", "sunny day", "clear daylight"],
    "dusk": ["at dusk", "sunset light", "in the evening glow", "golden dusk sky"],
    "night": ["at night", "under a starry night sky", "moonlit night", "dark night"],
}

STYLE_PHRASES: dict[Style, list[str]] = {
    "photo": ["photo", "realistic photograph", "photorealistic", "35mm photo"],
    "cartoon": ["cartoon", "cartoon style", "comic cartoon with bold outlines", "flat cartoon drawing"],
    "sketch": ["sketch", "pencil sketch", "coloured pencil sketch", "hand-drawn sketch"],
    "neon": ["neon", "neon sign style", "glowing neon lines", "neon light art"],
    "pixel art": ["pixel art", "8-bit pixel art", "retro pixel art", "pixelated game art"],
    "watercolour": ["watercolour", "watercolour painting", "soft watercolour wash", "loose watercolour"],
}

STYLE_TAGS: dict[Style, list[str]] = {
    "photo": ["sharp focus", "shallow depth of field", "soft shadows", "film grain", "highly detailed"],
    "cartoon": ["bold outlines", "flat colours", "clean shapes", "cheerful", "high quality"],
    "sketch": ["cross-hatching", "textured paper", "loose lines", "fine detail", "high quality"],
    "neon": ["glowing outlines", "dark background", "vivid glow", "high contrast", "high quality"],
    "pixel art": ["limited palette", "crisp blocks", "16-bit look", "no anti-aliasing", "high quality"],
    "watercolour": ["wet edges", "paper texture", "soft washes", "delicate", "high quality"],
}

# Words by which a fact is recognised in a text, beyond the phrases above.
PLACE_WORDS: dict[Place, str] = {
    "sea": r"sea|ocean|seaside|waves",
    "desert": r"desert|dunes?|sandy|sahara",
    "forest": r"forest|woods|pines?|woodland",
    "city": r"city|street|skyline|downtown|skyscrapers|urban|town",
    "mountains": r"mountains?|alpine|alps|peaks?",
    "meadow": r"meadows?|grassy|pasture|grassland",
}
TIME_WORDS: dict[Time, str] = {
    "day": r"day|daylight|daytime|noon|midday",
    "dusk": r"dusk|sunset|evening|twilight|sundown",
    "night": r"night|night-?time|midnight|moonlit|moonlight|starry",
}
STYLE_WORDS: dict[Style, str] = {
    "photo": r"photo|photos|photograph|photorealistic|photographic",
    "cartoon": r"cartoon|cartoons|comic|cartoonish",
    "sketch": r"sketch|sketched|sketchy|pencil|pencils",
    "neon": r"neon",
    "pixel art": r"pixel|pixels|pixelated|8-bit|16-bit|pixelart",
    "watercolour": r"water-?colou?rs?|aquarelle",
}

NEGATIVE_PROMPTS = ["", "", "", "blurry, low quality", "low quality, distorted", "blurry, deformed, bad colours"]
