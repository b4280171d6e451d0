"""Ways of asking about products, machines, vehicles, sites and software: four taught, the rest for the exam alone.

See `wordings_people` for how they were written.
"""

from __future__ import annotations

from benchmarks.memory.wordings_people import Asked

PRODUCT: dict[str, Asked] = {
    "price": (
        (
            "What is the price of {s}?",
            "Which price does {s} have?",
            "How high is the price of {s}?",
            "Please state the price of {s}.",
        ),
        (
            "how much is {s}",
            "{s} cost to buy",
            "What do we charge for one {s}?",
            "A client wants a single {s}. What do they pay?",
            "what does {s} go for",
            "{s} - how much money per piece?",
            "Could you tell me what {s} sells at?",
            "I need to put {s} on a quote, what amount do I write?",
            "what would buying {s} set me back",
        ),
    ),
    "monthly_fee": (
        (
            "What is the monthly fee for {s}?",
            "Which monthly fee does {s} have?",
            "How high is the monthly fee of {s}?",
            "Please state the monthly fee of {s}.",
        ),
        (
            "what do people pay each month for {s}",
            "{s} subscription per month",
            "If someone rents {s} instead of buying it, what is due every month?",
            "{s} - recurring charge?",
            "How much is a subscription to {s}?",
            "tell me what {s} comes to per month",
            "month by month, what does a subscriber of {s} owe",
            "I'd like the subscription rate of {s}.",
        ),
    ),
    "owner": (
        (
            "Who is the product owner of {s}?",
            "Which product owner does {s} have?",
            "Who owns the product {s}?",
            "Please name the product owner of {s}.",
        ),
        (
            "who is responsible for {s}",
            "{s} responsible person",
            "I have an idea for improving {s}. Whose desk does that go to?",
            "{s} - in whose care?",
            "whose baby is {s}",
            "Who decides what goes into {s}?",
            "could you find out who looks after {s} with us",
            "Which colleague has {s} under their responsibility?",
        ),
    ),
    "launch_date": (
        (
            "When was {s} launched?",
            "What is the launch date of {s}?",
            "On which day was {s} launched?",
            "Please give the launch date of {s}.",
        ),
        (
            "when did {s} come out",
            "{s} release day",
            "Since when can people buy {s}?",
            "{s} hit the market when?",
            "from what date on has {s} been on offer",
            "I'm writing a history of our range: when was {s} brought to market?",
            "Which day saw the introduction of {s}?",
            "Do you remember when we first sold {s}?",
        ),
    ),
    "end_of_sale": (
        (
            "When does the sale of {s} end?",
            "What is the end-of-sale date of {s}?",
            "On which day does the sale of {s} end?",
            "Please give the end-of-sale date of {s}.",
        ),
        (
            "until when can one still buy {s}",
            "{s} discontinued from",
            "When will {s} be taken off the market?",
            "{s} - last day it can be ordered?",
            "how long will {s} still be available, date please",
            "A customer fears that {s} is being phased out. As of when?",
            "From what day is {s} no longer sold?",
            "tell me when we're dropping {s} from the range",
        ),
    ),
    "article_number": (
        (
            "What is the article number of {s}?",
            "Which article number does {s} have?",
            "Under which article number is {s} sold?",
            "Please give the article number of {s}.",
        ),
        (
            "{s} SKU",
            "what do I type into the order form for {s}",
            "which item code goes with {s}?",
            "I want to reorder {s}, what's the order code?",
            "{s} - part no.?",
            "Could you give me the catalogue code for {s}?",
            "how is {s} coded in the catalogue",
            "For {s} the form asks for an item ID. Which one is it?",
        ),
    ),
}

MACHINE: dict[str, Asked] = {
    "operator": (
        (
            "Who is the operator of {s}?",
            "Who operates {s}?",
            "Which operator works on {s}?",
            "Please name the operator of {s}.",
        ),
        (
            "who runs {s} on the shop floor",
            "{s} run by",
            "Who stands at {s} all day?",
            "{s} makes odd noises. Who is the one working it?",
            "whose machine is {s}",
            "{s} - who uses it?",
            "could you tell me which colleague handles {s} every day",
            "I'd like to speak to whoever is at the controls of {s}.",
        ),
    ),
    "serial_number": (
        (
            "What is the serial number of {s}?",
            "Which serial number does {s} have?",
            "Under which serial number is {s} registered?",
            "Please give the serial number of {s}.",
        ),
        (
            "{s} s/n",
            "what does it say on the type plate of {s}",
            "The maker wants to identify {s}. What ID do I give them?",
            "{s} - factory ID?",
            "manufacturer's number for {s} pls",
            "how is {s} identified by its maker",
            "Read me the ID stamped on {s}.",
            "I'm on the phone with support about {s}, they ask for the s/n.",
        ),
    ),
    "purchase_price": (
        (
            "What was the purchase price of {s}?",
            "Which purchase price did {s} have?",
            "How high was the purchase price of {s}?",
            "Please state the purchase price of {s}.",
        ),
        (
            "how much did we pay for {s} when we got it",
            "{s} bought for",
            "What did {s} cost new?",
            "{s} - original investment?",
            "back then, what amount was spent on acquiring {s}?",
            "For the depreciation table: the acquisition value of {s}?",
            "what did buying {s} set us back",
            "I'd like to know the sum for which {s} was acquired.",
        ),
    ),
    "repair_cost": (
        (
            "What was the cost of the last repair of {s}?",
            "How high was the cost of the last repair of {s}?",
            "What did the last repair of {s} cost?",
            "Please state the cost of {s}'s last repair.",
        ),
        (
            "how much did it take to fix {s}",
            "{s} mending bill",
            "What did we spend the last time {s} was broken?",
            "{s} - invoice for getting it fixed?",
            "getting {s} to run again came to how much?",
            "what was on the mechanic's bill for {s}",
            "After {s}'s breakdown, what sum did the fix come to?",
            "I need to book the fix of {s}: which amount?",
        ),
    ),
    "next_service": (
        (
            "When is the next service of {s}?",
            "What is the date of the next service of {s}?",
            "On which day is the next service of {s} due?",
            "Please give the next service date of {s}.",
        ),
        (
            "when does {s} get looked at again",
            "{s} maintenance due",
            "When will the technician come for {s}?",
            "{s} - upcoming check-up?",
            "by what day must {s} be maintained",
            "I'm planning downtime: when is {s} up for maintenance?",
            "could you check when {s} has its maintenance appointment",
            "What day is {s} scheduled to be overhauled?",
        ),
    ),
}

VEHICLE: dict[str, Asked] = {
    "driver": (
        (
            "Who is the driver of {s}?",
            "Who drives {s}?",
            "Which driver uses {s}?",
            "Please name the driver of {s}.",
        ),
        (
            "who is usually behind the wheel of {s}",
            "{s} assigned to whom",
            "Somebody parked {s} in my way. Whom do I call?",
            "{s} - who has the keys?",
            "whose car is {s}?",
            "Which colleague takes {s} out on the road?",
            "tell me who's at the wheel of {s} these days",
            "I got a speeding ticket for {s}. Which colleague was it given to for use?",
        ),
    ),
    "mileage": (
        (
            "What is the mileage of {s}?",
            "Which mileage does {s} have?",
            "How high is the mileage of {s}?",
            "Please state the mileage of {s}.",
        ),
        (
            "how far has {s} been driven so far",
            "{s} odometer",
            "How many kilometres are on {s}?",
            "{s} - km reading?",
            "what distance does the counter of {s} show",
            "I want to sell {s}: how much has it run?",
            "How many k has {s} got on the clock?",
            "could you look up {s}'s odometer reading",
        ),
    ),
    "inspection_date": (
        (
            "When is the next inspection of {s}?",
            "What is the inspection date of {s}?",
            "On which day is {s} due for inspection?",
            "Please give the inspection date of {s}.",
        ),
        (
            "when does {s} need its roadworthiness test",
            "{s} MOT due",
            "By when must {s} go to the testing station?",
            "{s} - when's the check-up at the garage?",
            "until what day is the test sticker of {s} valid",
            "I have to book the garage for {s}. For what day?",
            "what's the date {s} has to be examined again",
            "Tell me when the technical test for {s} falls due.",
        ),
    ),
    "leasing_rate": (
        (
            "What is the leasing rate of {s}?",
            "Which leasing rate do we pay for {s}?",
            "How high is the leasing rate of {s}?",
            "Please state the leasing rate of {s}.",
        ),
        (
            "what does {s} cost us each month",
            "{s} monthly lease",
            "How much do we hand over per month to have {s}?",
            "{s} - instalment?",
            "what is debited every month because of {s}",
            "The bank shows a monthly debit for {s}. What should it be?",
            "per month, how much money goes on {s}?",
            "I'd like to know our instalments on {s}.",
        ),
    ),
    "parking_space": (
        (
            "Which parking space does {s} have?",
            "What is the parking space of {s}?",
            "In which parking space does {s} stand?",
            "Please tell me the parking space of {s}.",
        ),
        (
            "where do I leave {s} when I come back",
            "{s} bay",
            "Where is {s} kept overnight?",
            "{s} - which spot?",
            "I have the keys for {s}, where do I find it?",
            "what slot in the garage belongs to {s}",
            "Where should {s} be put back after use?",
            "can you tell me whereabouts {s} is parked",
        ),
    ),
}

SITE: dict[str, Asked] = {
    "address": (
        (
            "What is the address of {s}?",
            "Which address does {s} have?",
            "At which address is {s}?",
            "Please give the address of {s}.",
        ),
        (
            "where is {s}",
            "{s} street and no.",
            "What do I enter into the sat nav to get to {s}?",
            "{s} - how to get there, street?",
            "I'm sending a courier to {s}. What goes on the label?",
            "on what street would I find {s}",
            "Where does the taxi have to take me for {s}?",
            "could you tell me {s}'s location, street and number",
        ),
    ),
    "caretaker": (
        (
            "Who is the caretaker of {s}?",
            "Which caretaker does {s} have?",
            "Who takes care of the building {s}?",
            "Please name the caretaker of {s}.",
        ),
        (
            "the heating in {s} is broken, whom do I call",
            "{s} janitor",
            "Who looks after things at {s}?",
            "{s} - facility person?",
            "a lamp is out at {s}. who fixes things there?",
            "Which person keeps {s} in order?",
            "do you know the custodian over at {s}",
            "For {s}, who's the handyman?",
        ),
    ),
    "rent": (
        (
            "What is the rent for {s}?",
            "Which rent do we pay for {s}?",
            "How high is the rent of {s}?",
            "Please state the rent of {s}.",
        ),
        (
            "what do we pay the landlord for {s}",
            "{s} monthly lease amount",
            "How much does the owner of {s} get from us per month?",
            "{s} - cost of letting?",
            "what does having {s} cost us every month?",
            "For the budget I need what {s} costs monthly.",
            "how much goes to the landlord of {s}",
            "Tell me our tenancy payment for {s}.",
        ),
    ),
    "opening_date": (
        (
            "When was {s} opened?",
            "What is the opening date of {s}?",
            "On which day did {s} open?",
            "Please give the opening date of {s}.",
        ),
        (
            "since when have we been using {s}",
            "{s} inaugurated",
            "When did operations begin at {s}?",
            "{s} - in use from?",
            "from what day on has {s} been in service",
            "We plan an anniversary party at {s}. When was it inaugurated?",
            "how old is {s}, I mean the day it went into operation",
            "Which day did we move into {s}?",
        ),
    ),
    "alarm_code": (
        (
            "What is the alarm code of {s}?",
            "Which alarm code does {s} have?",
            "With which code is the alarm of {s} switched off?",
            "Please give the alarm code of {s}.",
        ),
        (
            "what do I punch into the keypad at {s}",
            "{s} keypad",
            "I'm standing in {s} and the siren is going off. What do I enter?",
            "{s} - security PIN?",
            "how do I disarm the system in {s}",
            "First one in tomorrow at {s}: what do I key in at the panel?",
            "could I have the PIN to disarm {s}",
            "Tell me the combination for the security panel at {s}.",
        ),
    ),
}

SOFTWARE: dict[str, Asked] = {
    "administrator": (
        (
            "Who is the administrator of {s}?",
            "Which administrator does {s} have?",
            "Who administers {s}?",
            "Please name the administrator of {s}.",
        ),
        (
            "who can give me access to {s}",
            "{s} sysadmin",
            "I'm locked out of {s}. Whom do I turn to?",
            "{s} - who sets up accounts?",
            "who keeps {s} running for us",
            "Whom do I ask for a login to {s}?",
            "which colleague in IT looks after {s}",
            "Need somebody with root rights on {s}; who's that?",
        ),
    ),
    "version": (
        (
            "Which version of {s} do we use?",
            "What is the version of {s}?",
            "What version of {s} is installed?",
            "Please state the version of {s}.",
        ),
        (
            "how recent is our {s}",
            "{s} release no.",
            "Which release of {s} are we on?",
            "{s} - build?",
            "what number does the About dialog of {s} show",
            "Support wants to know what release of {s} we run.",
            "tell me the build of {s} that's on our machines",
            "To what release have we upgraded {s}?",
        ),
    ),
    "vendor": (
        (
            "Who is the vendor of {s}?",
            "Which vendor sells {s}?",
            "From which vendor do we have {s}?",
            "Please name the vendor of {s}.",
        ),
        (
            "who makes {s}",
            "{s} publisher",
            "Which company is behind {s}?",
            "{s} is from which firm?",
            "where did we get {s} from",
            "Who do we pay the licences of {s} to?",
            "I found a bug in {s}; which manufacturer do I report it to?",
            "could you tell me who develops {s}",
        ),
    ),
    "yearly_cost": (
        (
            "What does {s} cost a year?",
            "What is the yearly cost of {s}?",
            "How high is the yearly cost of {s}?",
            "Please state the yearly cost of {s}.",
        ),
        (
            "how much do we spend on {s} annually",
            "{s} annual bill",
            "What's on the twelve-month invoice for {s}?",
            "{s} - licence spend p.a.?",
            "every year, how much money goes to {s}",
            "For next year's budget: the annual amount for {s}?",
            "what are the licences of {s} setting us back per annum",
            "Tell me the annual charge for {s}.",
        ),
    ),
    "host": (
        (
            "On which server does {s} run?",
            "Which server hosts {s}?",
            "What is the server of {s}?",
            "Please name the server of {s}.",
        ),
        (
            "where is {s} installed",
            "{s} hostname",
            "Which box do I ssh into for {s}?",
            "{s} - which machine is it on?",
            "what's the host behind {s}",
            "I have to reboot whatever {s} lives on. Which one is that?",
            "Where do I find the logs of {s}, I mean on what host?",
            "could you look up the node that {s} was deployed to",
        ),
    ),
}
