"""Real text of many scripts and all kinds of emoji passes unharmed, whole and one character at a time.

Joiners and selectors are written as escapes, so that a reader sees where they are.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import product
from typing import Literal

import pytest

from app.terminal import Sanitizer, sanitize
from tests.hostile.terminal import foreign

EMOJI = r"""
😀 😂 🥰 🤔 👍 🙏 🎉 🚀 🔥 ✨
❤\uFE0F ☺\uFE0F ✔\uFE0F ⚠\uFE0F ☎\uFE0F ✈\uFE0F ☁\uFE0F ♻\uFE0F ©\uFE0F ®\uFE0F ™\uFE0F
ℹ\uFE0F ↔\uFE0F ㊗\uFE0F 🅰\uFE0F
❤\uFE0E ☎\uFE0E ✈\uFE0E ♠\uFE0E
👍🏻 👍🏼 👍🏽 👍🏾 👍🏿 ☝🏽 ✍🏿
🇩🇪 🇯🇵 🇧🇷🇮🇳🇺🇳
🏴\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F
🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F
🏴\U000E0067\U000E0062\U000E0077\U000E006C\U000E0073\U000E007F
#\uFE0F\u20E3 *\uFE0F\u20E3 0\uFE0F\u20E3 9\uFE0F\u20E3 1\u20E3
👩\u200D💻
👨🏿\u200D🚀
🧑🏽\u200D⚕\uFE0F
🧑\u200D🎄
👨\u200D👩\u200D👧\u200D👦
👩\u200D❤\uFE0F\u200D💋\u200D👨
👩🏽\u200D❤\u200D👨🏻
🫱🏻\u200D🫲🏿
👩🏻\u200D🤝\u200D👩🏿
🏳\uFE0F\u200D🌈
🏳\uFE0F\u200D⚧\uFE0F
🏴\u200D☠\uFE0F
👁\uFE0F\u200D🗨\uFE0F
🕵🏾\u200D♀\uFE0F
🤷\u200D♂\uFE0F
🧔🏼\u200D♀
👩🏾\u200D🦱 👨\u200D🦰 🧑🏻\u200D🦲
🐻\u200D❄\uFE0F
🐈\u200D⬛
🐕\u200D🦺
❤\uFE0F\u200D🔥
❤\u200D🩹
😮\u200D💨 😵\u200D💫
😶\u200D🌫\uFE0F
🫨 🪿 🩷
🙂\u200D↔\uFE0F 🙂\u200D↕\uFE0F
🐦\u200D🔥 🍋\u200D🟩 ⛓\uFE0F\u200D💥 🧑\u200D🧑\u200D🧒\u200D🧒
🏃🏿\u200D♂\uFE0F\u200D➡\uFE0F
🫩 🫆 🪾 🫜 🪉 🪏 🫟
🀄 🃏 🎴 🈁 🈚\uFE0F 🈂\uFE0F
"""

ARABIC_SCRIPT = r"""
يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.
بِسْمِ اللَّهِ الرَّحْمَٰنِ الرَّحِيمِ
السَّلَامُ عَلَيْكُمْ
مرحبا بالعالم! كيف حالك؟
العدد ١٢٣٬٤٥٦٫٧٨ ٪
الٓمٓ \u06DD١
ﷺ ﷽
١٤٤٥ ه\u200D
ـــ تطويل ـــ
تمام افراد بشر آزاد به دنیا می\u200Cآیند
می\u200Cخواهم کتاب\u200Cها را بخوانم
خانه\u200Cای که می\u200Cبینم
نمی\u200Cدانم، شما می\u200Cدانید؟
پیش\u200Cبینی آب\u200Cوهوا
بی\u200Cنظیر
رفته\u200Cام
این کتاب\u200Cهایشان
تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔
آپ کیسے ہیں؟ میں ٹھیک ہوں۔
سندھي ٻولي
ټول انسانان آزاد نړۍ ته راځي
هەموو مرۆڤەکان بە ئازادی لە دایک دەبن
ھەممە ئادەم تۇغۇلۇشىدىنلا ئەركىن
ܟܠ ܒܪܢܫܐ ܒܪܝܠܗ ܚܐܪܐ
ދިވެހިބަސް
ߒߞߏ ߞߊ߲ߜߍ
𞤀𞤣𞤤𞤢𞤥 𞤆𞤵𞤤𞤢𞤪
"""

HEBREW = r"""
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
שלום עולם! מה שלומך?
שָׁלוֹם
בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים אֵ֥ת הַשָּׁמַ֖יִם וְאֵ֥ת הָאָֽרֶץ׃
וְהָאָ֗רֶץ הָיְתָ֥ה תֹ֙הוּ֙ וָבֹ֔הוּ וְחֹ֖שֶׁךְ עַל־פְּנֵ֣י תְה֑וֹם
יְרוּשָׁלִַ\u034Fם
מחיר: 12.50 ₪ (כולל מע״מ)
צה״ל, ז׳בוטינסקי
יעדער מענטש ווערט געבוירן פֿרײַ און גלײַך
אַלע מענטשן
English עברית mixed 123
ﬠﬡ ﬁ
"""

INDIC = r"""
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।
नमस्ते दुनिया! आप कैसे हैं?
क्ष क्\u200Dष क्\u200Cष
श्री ज्ञान त्रिशूल
दऱ्या र्\u200Dय सुऱ्या
वाङ्\u200Cमय
सबै व्यक्तिहरू जन्मजात स्वतन्त्र हुन्
सर्वे मानवाः स्वतन्त्राः समुत्पन्नाः वर्तन्ते
अ॒ग्निमी॑ळे पु॒रोहि॑तं य॒ज्ञस्य॑ दे॒वमृ॒त्विज॑म्
ॐ भूर्भुवः॒ स्वः॒
मराठी भाषा आहे
समस्त मानव जन्म से स्वतंत्र
₹१,२३,४५६
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
র\u200D্যাব র\u200D্যাংক
ত্\u200D উৎসব
বাংলা ভাষা
অসমীয়া ভাষা
ਸਾਰੇ ਮਨੁੱਖ ਆਜ਼ਾਦ ਪੈਦਾ ਹੁੰਦੇ ਹਨ
ਸਤ ਸ੍ਰੀ ਅਕਾਲ
પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર
કેમ છો?
ସବୁ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ ସ୍ୱାଧୀନ
ଓଡ଼ିଆ
மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்
வணக்கம் உலகம்
க்\u200Cஷ ஸ்ரீ
ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును
సాఫ్ట్\u200Cవేర్ ఇంజనీర్
నమస్కారం
ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಹುಟ್ಟಿದ್ದಾರೆ
ರ\u200D್ಕ ಸಾಫ್ಟ್\u200Cವೇರ್
ನಮಸ್ಕಾರ
മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും ജനിച്ചവരാണ്
അവന്\u200D അവള്\u200D അവര്\u200D
നമസ്കാരം
സോഫ്റ്റ്\u200Cവെയര്\u200D
සියලු මනුෂ්\u200Dයයෝ නිදහස්ව උපත ලබා ඇත
ශ්\u200Dරී ලංකාව
ක්\u200Dෂ ප්\u200Dරශ්නය
ආයුබෝවන්
ꯃꯤꯇꯩꯂꯣꯟ
ᱥᱟᱱᱛᱟᱲᱤ
𑄌𑄋𑄴𑄟𑄳𑄦
𑒧𑒻𑒟𑒱𑒪𑒲
"""

SOUTH_EAST_ASIA = r"""
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ
สวัสดีชาวโลก น้ำ ที่ ก็ ฤๅษี ๑๒๓ ฿
กำ กํา ปั๊ม
คำ\u200Bแบ่ง\u200Bวรรค
ທຸກຄົນເກີດມາມີສິດເສລີພາບ
ສະບາຍດີ
មនុស្ស\u200Bទាំង\u200Bអស់\u200Bកើត\u200Bមក\u200Bមាន\u200Bសេរីភាព
សួស្តី\u200Bពិភពលោក
ស្ត្រី ខ្ញុំ
လူတိုင်းသည် တူညီလွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသည်
မင်္ဂလာပါ\u200Bကမ္ဘာ
ကြွှေ ကျွန်ုပ် ဩဇာ
မ\uFE00
འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས
ༀ་མ་ཎི་པདྨེ་ཧཱུྃ
ཧྐྵྨླྺྼྻྂ
འབྲུག་ཡུལ་གྱི་སྐད
ꦱꦧꦼꦤꦶꦥꦸꦤ꧀ꦩꦤꦸꦁꦱ
ᬲᬓᬮᬶᬯᭀᬂ
ᮞᮊᮥᮙ᮪ᮔ
ᨕᨙᨄᨛ ᨀᨊ
ᥟᥛᥳ ᦑᦺ
ᨴᩱ\u200Bᩃᩣ᩠ᨶᨶᩣ
Tất cả mọi người sinh ra đều được tự do và bình đẳng
"""

OTHER_SCRIPTS = r"""
ᠬᠦᠮᠦᠨ ᠪᠦᠷ ᠲᠥᠷᠥᠵᠦ ᠮᠡᠨᠳᠡᠯᠡᠬᠦ
ᠠ\u180B ᠴᠠᠭᠠ\u180Eᠠ\u180C
ᠲᠡᠷ\u180Eᠡ
人人生而自由，在尊嚴和權利上一律平等。
人人生而自由,在尊严和权利上一律平等。
葛\U000E0100城市と葛\U000E0101飾区
神\uFE00
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
か\u3099き\u3099は\u309A
ｶﾞｷﾞ ﾊﾟ １２３　全角　スペース
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
\u1112\u1161\u11AB\u1100\u1173\u11AF
ㄱㄴㄷ ㅏㅑㅓ
ꀉꂿꊨꏦꏂꅩꄻ
Все люди рождаются свободными и равными в своём достоинстве и правах.
за\u0301мок и замо\u0301к, и\u0306 ѣ ҃
Усі люди народжуються вільними і рівними у своїй гідності та правах. Є ї ґ
Сви људи рађају се слободни и једнаки
Бүх хүн төрж мэндлэхэд эрх чөлөөтэй
Ὅλοι οἱ ἄνθρωποι γεννιοῦνται ἐλεύθεροι
α\u0313\u0301\u0345 ω\u0314\u0342\u0345
ყველა ადამიანი იბადება თავისუფალი
Բոլոր մարդիկ ծնվում են ազատ
የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻ
ᏂᎦᏓ ᎠᏂᏴᏫ
ᐃᓄᓕᒫᑦ ᐊᓂᖅᑎᕆᔪᓕᒫᑦ
ⴰⵎⴷⴰⵏⵏ
ꔀꔤ ꕉꕜ ꗏ
ⲁⲛⲟⲕ ⲡⲉ
ܫܠܡܐ ܐܒ\u070F ܡ
𑂍𑂶𑂟𑂲 \U000110BD𑃁
\u0600١٢٣ \u0601١٤٤٥ \u08E2
ᚠᚢᚦᚨᚱᚲ ᚛ᚑᚌᚐᚋ᚜
𒀭𒂗𒆤 𓀀𓁐𓂀 𐎠𐎡𐎢 𐌰𐌱𐌲
⠓⠑⠇⠇⠕⠀⠺⠕⠗⠇⠙
"""

LATIN_AND_SYMBOLS = r"""
All human beings are born free and equal in dignity and rights.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Größe, Straße, ẞ
Tous les êtres humains naissent libres\u202F; «\u00A0égaux\u00A0»\u202F!
Todos los seres humanos nacen libres e iguales: ¿cómo estás? ¡Bien!
Todos os seres humanos nascem livres e iguais em dignidade e em direitos. ação
Wszyscy ludzie rodzą się wolni i równi: zażółć gęślą jaźń
Všichni lidé rodí se svobodní: příliš žluťoučký kůň
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İı
Allir menn eru bornir frjálsir: Þ ð æ ö
Minden emberi lény szabadon születik: árvíztűrő tükörfúrógép
Kõik inimesed sünnivad vabadena
Gbogbo ènìyàn ni a bí ní òmìnira; ẹ̀kọ́ ọ̀rọ̀
Dukkan 'yan-adam suna haifuwa: ɓ ɗ ƙ ƴ
cafe\u0301 nai\u0308ve e\u0323\u0302 a\u030A n\u0303 o\u0328\u0304
[ˈɪŋɡlɪʃ] t͡ʃ d͡ʒ ã̰ ɚ̯ ˥˩ k͈ʰ
x⃗ × y⃗ = z⃗, ĉ·d̂, a⃝
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β, ∑ᵢ₌₁ⁿ i², √2 ≈ 1.414, ∅\uFE00, ≨\uFE00, 0\uFE00
┌─┬─┐│░▒▓█▄▀├─┼─┤╔═╗
← ↑ → ↓ ↔ ⇒ ⟶ ⮕ ■ □ ▲ ◆ ○ ● ★ ☆ ✓ ✗
½ ¼ ⅓ ¹²³ № ℃ € £ ¥ ₿ ‰ § ¶ † ‡ … — – ‘’ “” „“ ‹›
Toate fiinţele umane se nasc libere: ă â î ș ț
Visi žmonės gimsta laisvi: ąčęėįšųūž
Ogni individuo ha diritto: perché così è
Älä hätäile, öljyä
Semua orang dilahirkan merdeka
Saoirse: ḃ ċ ḋ ḟ ġ
$ git commit -m "x" && make -j8 | tee log.txt; echo $?
https://example.org/a?b=c&d=%20#e
♩ ♪ ♫ ♭ ♯ 𝄞 ♔ ♞ ⚀ ⚅ ☀ ☂ ☯
def f(x):\n\treturn {"a": [1, 2], 'b': x ** 2}  # ok
| a | b |\n|---|:-:|\n| `1` | **2** |\n
<a href="https://example.org/?q=1&amp;r=2">x</a> \x1b[31m is only spelt here
"""


_ESCAPE = re.compile(r"\\u([0-9A-F]{4})|\\U([0-9A-F]{8})|\\([nt])")


def samples(block: str) -> list[str]:
    """The lines of a block, their escapes resolved."""

    def resolve(escape: re.Match[str]) -> str:
        short, long, name = escape.groups()
        return {"n": "\n", "t": "\t"}[name] if name else chr(int(short or long, 16))

    return [_ESCAPE.sub(resolve, line) for line in block.split("\n") if line]


SAMPLES = [
    sample
    for block in (EMOJI, ARABIC_SCRIPT, HEBREW, INDIC, SOUTH_EAST_ASIA, OTHER_SCRIPTS, LATIN_AND_SYMBOLS)
    for sample in samples(block)
]


def test_there_are_enough_samples_to_speak_of() -> None:
    assert len(set(SAMPLES)) == len(SAMPLES) >= 200


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_real_text_passes_unharmed(sample: str) -> None:
    assert sanitize(sample) == sample


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_real_text_passes_unharmed_one_character_at_a_time(sample: str) -> None:
    sanitizer = Sanitizer()
    assert "".join(map(sanitizer.feed, sample)) + sanitizer.flush() == sample


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_judge_finds_nothing_foreign_in_a_real_text(sample: str) -> None:
    assert foreign(sample) == set()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_real_texts_pass_in_both_normal_forms(form: Literal["NFC", "NFD"]) -> None:
    for sample in SAMPLES:
        normal = unicodedata.normalize(form, sample)
        assert sanitize(normal) == normal


def test_every_person_of_every_skin_tone_passes_in_every_role() -> None:
    tones = ["", *"🏻🏼🏽🏾🏿"]
    roles = ["⚕\ufe0f", "⚖\ufe0f", "✈\ufe0f", *"🌾🍳🍼🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒🦯🦼🦽", *"🦰🦱🦲🦳"]
    for person, tone, role in product("👨👩🧑", tones, roles):
        emoji = f"{person}{tone}\u200d{role}"
        assert sanitize(f"a {emoji}{emoji}.") == f"a {emoji}{emoji}."


def test_every_flag_of_two_letters_passes() -> None:
    letters = [chr(code) for code in range(0x1F1E6, 0x1F200)]
    for pair in product(letters, repeat=2):
        assert sanitize("".join(pair)) == "".join(pair)
