"""Personal data planted in `data/sample/`: none of it may be found behind `clean`, anywhere.

The addresses are of reserved domains, the numbers fictional, test numbers or examples of their issuers' own documents.
"""

EMAILS = (
    "lena.hart@example.com",
    "wang.fang@example.org",
    "m.okafor@example.net",  # in a field beside the conversation
    "priya.nair@example.com",  # in a tool's answer
    "omar.haddad@example.com",  # in the arguments of a tool call
    "tom.berg@example.org",  # in a rejected answer
    "grace.lin@example.com",
    "docs-team@example.org",
    "paul.reyes@example.com",  # in a record that is quarantined
)
PHONES = (
    "+1 202-555-0143",
    "13800138000",
    "+44 20 7946 0018",
    "155 0000 0000",
    "202-555-0178",  # in the arguments of a tool call
    "07700 900461",  # in a CSV column beside the text
    "+1 (303) 555-0119",
    "(415) 555-0132",  # in a record that is quarantined
)
OTHERS = (
    "reader:s3cret-pw",
    "203.0.113.8",
    "11010519491231002X",
    "4111 1111 1111 1111",
    "AKIAIOSFODNN7EXAMPLE",
)
DIRECTORY = (  # all in one field beside a conversation: fifty values in all
    "aisha.bello@example.com",
    "ben.carter@example.org",
    "chen.yu@example.net",
    "dana.novak@example.com",
    "elif.kaya@example.org",
    "felix.roth@example.net",
    "gita.rao@example.com",
    "hugo.silva@example.org",
    "ines.moreau@example.net",
    "jonas.lind@example.com",
    "kofi.mensah@example.org",
    "lucia.vega@example.net",
    "mina.sato@example.com",
    "noor.ali@example.org",
    "otto.weiss@example.net",
    "pia.costa@example.com",
    "+1 202-555-0150",
    "+1 202-555-0151",
    "+1 202-555-0152",
    "+1 202-555-0153",
    "+1 202-555-0154",
    "+1 202-555-0155",
    "07700 900920",
    "07700 900921",
    "07700 900922",
    "+44 20 7946 0031",
    "+44 20 7946 0032",
    "+44 20 7946 0033",
)
PLANTED = EMAILS + PHONES + OTHERS + DIRECTORY
ALLOWED = "support@winnow.example"  # the demo recipe's allow-list: stays
