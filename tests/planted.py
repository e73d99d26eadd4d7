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
PLANTED = EMAILS + PHONES + OTHERS
ALLOWED = "support@winnow.example"  # the demo recipe's allow-list: stays
