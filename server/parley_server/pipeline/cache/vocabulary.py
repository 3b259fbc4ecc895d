"""Words of `wording.py`: frames that questions come in, words without a meaning of their own, words that mean the same.

English. Words of other languages are in none of these lists, so they are compared as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

POLITE = """
please; kindly; hi; hello; hey; thanks; can you; could you; would you; will you; you; i would like to; i want to
i wish to; i am trying to; i was wondering; i want to know; i need to know; i would like to know; do you know
let me know; help me; help me to; to me
"""
"""What may come before a question and changes nothing."""
TELL = """
tell me; give me; show me; explain; explain to me; define; describe; an explanation of; the definition of
the meaning of; recommend; suggest; list; name
"""
"""What asks for something to be told."""
KINDS = {
    "how": """
how can i; how do i; how could i; how would i; how do you; how can you; how do we; how can we; how does one
how can one; how to; how do; how does; how did; how is; how are; how was; how were; how; what is the way to
what is a way to; what is the best way to; what is a good way to; what is the right way to
what is the easiest way to; what is the proper way to; what is the correct way to; what is the best method to
what are ways to; what are good ways to; what are some ways to; what are some good ways to; what are the ways to
what are the steps to; what are the steps for; what steps do i follow to; what is the process to
what is the process of; what is the process for; what is the procedure to; what is the procedure for
what do i need to do to; what do i have to do to; what can i do to; what should i do to; what does it take to
what is the command to; what command; which command; is there a way to; is there any way to
""",
    "must": "must; do i need to; do i have to; am i required to; is it necessary to",
    "should": "should; ought; had i better",
    "can": "can; could; may; might; is it possible to; is it possible for me to; am i able to",
    "what": """
what are some good; what is; what are; what was; what were; what does; what do; what did; what; which is; which are
which
""",
    "plain": "is; are; am; was; were; do; does; did; will; would; has; have; had",
}
"""How questions begin, by what they ask. The first that fits is taken."""
TOPICS = "in on with using for"
"""What begins a topic that comes before its question."""
PHRASES = """
turn on = enable; switch on = enable; turn off = disable; switch off = disable; turn into = convert
change into = convert; log in = login; log into = login; log on = login; sign in = login; sign into = login
log out = logout; log off = logout; sign out = logout; sign up = register; set up = setup; setting up = setup
back up = backup; check in = checkin; check out = checkout; user name = username; pass word = password
get rid of = remove; look for = find; send back = return; give back = return; get in touch with = contact
e mail = email; two factor authentication = 2fa; two step verification = 2fa; pay rise = raise; two times = twice
other countries = internationally; a recipe for = make; how many = number; how much time = duration
for how long = duration; how long = duration; how old = age; how tall = height; how high = height; how deep = depth
how far = distance; how fast = speed; how heavy = weight; how big = size; how large = size; how wide = width
how often = frequency; at what temperature = temperature; in what year = when; in which year = when
which year = when; what year = when; on what date = when; which date = when; what date = when; what time = when
at what time = when; which day = when; what day = when; in which place = where; what is the reason that = why
what is the reason for = why; what is the reason = why; what makes = why; what causes = why; how come = why
as well as = and; in order to = to; a lot of = many; lots of = many; got charged = charged; each day = daily
every day = daily; a day = daily; per day = daily; each week = weekly; every week = weekly; per week = weekly
a week = weekly; each month = monthly; every month = monthly; per month = monthly; a month = monthly
each year = yearly; every year = yearly; per year = yearly; a year = yearly; do i need to =; i need to =
i have to =; i should =; should i =; for me =; can you =; can i do to = how; how do you say = translate
how do i say = translate; how to say = translate; in may = month5; next may = month5; last may = month5
this may = month5
"""
"""Several words = the one, or none, that says the same."""
EMPTY = """
a an the this that these those it its there here i me my mine myself we us our you your yours be been being am is
are was were do does did doing will would can could may might have has had having and so then of to in on at for
with as into during what which how some any please just also really actually simply using mean means meaning
definition explanation happen happens got exactly
"""
"""Words without a meaning of their own."""
NOUNS = "will can may might mean"
"""Of these, those that have one after a word of DETERMINERS."""
DETERMINERS = "a an the my your our his her their this that"
SAME = """
not no never without none neither nor; delete remove erase; change update edit modify alter
fix repair resolve solve; buy purchase order; show display view; begin launch start; stop end finish; quit exit
find locate see; make create; write compose draft author; pick choose select; big large; small little
fast quick rapid; parcel package; shop store; photo picture image; movie film; cheap inexpensive; ship deliver
shipping delivery; receive arrive come; invoice bill; allow permit; error bug problem issue; support service
membership subscription; cancel terminate; phone telephone mobile cellphone smartphone; laptop notebook
fridge refrigerator; car automobile; holiday vacation; flat apartment; kid child; mum mom mother; dad father
airplane aeroplane plane; doctor physician; illness disease; medicine medication; hard difficult; easy simple
important significant; summary summarise summarize; invent inventor; discover discoverer; paint painter
differ difference different; advantage benefit; disadvantage drawback; task duty; reason cause why; age old
height tall high; length long duration; width wide; depth deep; speed fast; weight heavy; size big large
distance far; price cost; population inhabitant people; spoken speak; live reside; job work occupation
salary pay wage; increase raise; lower reduce decrease; improve better raise; near nearest close closest
entire whole; method option; kind type sort; several multiple; test exam; street road; journey tour trip
visit travel; colour color; undo revert; redeem apply enter; convert turn transform; print output; folder directory
copy duplicate; merge combine join; centre center; repository repo; dictionary dict; integer int; string str
parameter argument; function method; configuration config; database db; javascript js; kubernetes k8s; cook prepare
train prepare; wash clean; sofa couch; rubbish garbage trash; queue line; petrol gasoline; biscuit cookie
trousers pants; required necessary need; replace swap substitute; refund reimbursement; coupon voucher promo
damaged broken; crash freeze frozen; day daily; week weekly; month monthly; year yearly annual; startup start
healthy good; good great; colleague coworker; tip advice; visible shown; 2 twice double; all every each
get obtain acquire; much amount; number amount quantity count; pause suspend; tyre tire; km kilometre kilometer
m metre meter; cm centimetre centimeter; kg kilogram kilo; g gram; mg milligram; l litre liter; percent %; dollar $
euro €; pound £; hour hr h; minute min; celsius centigrade
"""
"""Words that mean the same, by group. A word may be in several."""
FORMS = """
wrote write; written write; spoke speak; spoken speak; froze freeze; frozen freeze; bought buy; sent send; paid pay
found find; made make; lost lose; built build; fell fall; fallen fall; began begin; chose choose; chosen choose
broke break; drove drive; ate eat; took take; gave give; went go; came come; saw see; seen see; knew know
thought think; taught teach; caught catch; brought bring; forgot forget; forgotten forget; kept keep; met meet
ran run; sold sell; told tell; won win; grew grow; drew draw; rose rise; led lead; hid hide; rode ride; slept sleep
spent spend; children child; men man; women woman; feet foot; teeth tooth; mice mouse; bacteria bacterium
knives knife; leaves leaf; wolves wolf; zero 0; one 1; two 2; three 3; four 4; five 5; six 6; seven 7; eight 8
nine 9; ten 10; eleven 11; twelve 12; dozen 12; twenty 20; thirty 30; forty 40; fifty 50; hundred 100; thousand 1000
million 1000000; single 1; first 1st; third 3rd; fourth 4th; fifth 5th; sixth 6th; seventh 7th; eighth 8th
ninth 9th; tenth 10th
"""
"""Irregular form, and the regular one; number, and its digits."""
ALIKE = "a an the my our; can do could would; what which; is are; me us; do does; please could"
"""Small words that may stand for each other where they are all the difference between two questions."""
DIRECTED = "from than into versus vs over under before after exceed exceeds by"
"""Words that make the order of others matter."""


def groups(text: str) -> Iterator[list[str]]:
    """The groups of a list: words with spaces between them, groups with semicolons or line breaks."""
    return (group.split() for group in text.replace("\n", ";").split(";") if group.strip())


def pairs(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The two sides of each group with an equals sign."""
    for group in groups(text):
        middle = group.index("=")
        yield group[:middle], group[middle + 1 :]
