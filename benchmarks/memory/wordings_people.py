"""Ways of asking about employees, departments, customers and suppliers: four taught, the rest for the exam alone.

The exam's were written by hand as people type, with other sentence frames and, where English has one, another key
word than the four. Nobody who writes training data for the memory reads this file.
"""

from __future__ import annotations

Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""(the four taught wordings, the unseen ones); {s} stands for the subject's name."""

EMPLOYEE: dict[str, Asked] = {
    "manager": (
        (
            "Who is the manager of {s}?",
            "Who manages {s}?",
            "Which manager does {s} have?",
            "Please name {s}'s manager.",
        ),
        (
            "who does {s} report to",
            "{s} boss",
            "I have to escalate something about {s}, whom do I turn to as their superior?",
            "{s} - who is the direct supervisor?",
            "could you look up the line supervisor for {s}, thanks",
            "need the name of the person that {s} answers to",
            "Under whom does {s} work?",
            "Do you happen to know who {s}'s boss is?",
            "For {s}, tell me whoever is directly above them in the hierarchy.",
            "whose direct report is {s}?",
        ),
    ),
    "mentor": (
        (
            "Who is the mentor of {s}?",
            "Who mentors {s}?",
            "Which mentor was {s} given?",
            "Please name {s}'s mentor.",
        ),
        (
            "who shows {s} the ropes",
            "onboarding buddy {s}",
            "{s} is new here; who takes them under their wing?",
            "I'd like to know which colleague was picked to coach {s}.",
            "Could you tell me whose mentee {s} is?",
            "{s}, assigned coach?",
            "who has been asked to guide {s} through the first months",
            "Give me the name of the tutor looking after {s}.",
            "Any idea who is coaching {s}?",
        ),
    ),
    "room": (
        (
            "Which office does {s} sit in?",
            "What is the room number of {s}?",
            "In which room does {s} work?",
            "Please tell me {s}'s office.",
        ),
        (
            "where can I find {s} in the building",
            "{s} desk location",
            "I have a parcel for {s}, where do I bring it?",
            "where's {s} seated?",
            "Want to drop by and see {s} in person. Where to?",
            "{s} - on which corridor and door?",
            "hi, whereabouts does {s} have their desk?",
            "Point me to the place where {s} sits, please.",
            "If I wanted to visit {s} at their workplace, which door would I knock on?",
        ),
    ),
    "start_date": (
        (
            "When did {s} start at the company?",
            "What is the start date of {s}?",
            "On which day did {s} begin to work here?",
            "Please give {s}'s start date.",
        ),
        (
            "since when has {s} been with us",
            "{s} joined when?",
            "hire date {s}",
            "I'm planning a work anniversary for {s}: what was their first day?",
            "{s} - date of joining",
            "how long ago was {s} hired, I mean the exact date",
            "Tell me the day {s} came on board, please.",
            "From what date on has {s} been employed?",
            "could you check when we took {s} on?",
        ),
    ),
    "extension": (
        (
            "What is the phone extension of {s}?",
            "Which extension does {s} have?",
            "Under which extension can {s} be reached?",
            "Please give {s}'s extension.",
        ),
        (
            "how do I call {s}",
            "{s} phone",
            "what do I dial to get {s} on the line?",
            "I need to ring {s}, number please",
            "{s} - tel.?",
            "Can you give me the digits to reach {s} by telephone?",
            "internal number for {s}",
            "Trying to get hold of {s} over the phone, which number is it?",
            "put me through to {s}, or just tell me the direct dial",
        ),
    ),
    "job_title": (
        (
            "What is the job title of {s}?",
            "Which position does {s} hold?",
            "What job does {s} have?",
            "Please state {s}'s position.",
        ),
        (
            "what does {s} do here",
            "{s} role",
            "In what capacity is {s} employed?",
            "{s} works with us as what?",
            "For the name badge: what should I print under {s} as their role?",
            "what's {s} hired as?",
            "i always forget, what is it that {s} does for a living",
            "Tell me the function {s} fulfils in the firm.",
            "{s}, occupation?",
        ),
    ),
}

DEPARTMENT: dict[str, Asked] = {
    "head": (
        (
            "Who is the head of {s}?",
            "Who heads {s}?",
            "Which person is head of {s}?",
            "Please name the head of {s}.",
        ),
        (
            "who runs {s}",
            "{s} chief",
            "Who's in charge over at {s}?",
            "{s}: who calls the shots there?",
            "I need a signature from whoever leads {s}. Who would that be?",
            "could you tell me the boss of {s} please",
            "under whose leadership is {s}",
            "At the top of {s} sits who?",
            "director of {s}?",
        ),
    ),
    "deputy": (
        (
            "Who is the deputy head of {s}?",
            "Who is deputy in {s}?",
            "Which deputy does {s} have?",
            "Please name the deputy of {s}.",
        ),
        (
            "who stands in when the chief of {s} is away",
            "{s} second in command",
            "The head of {s} is on leave. Who steps in?",
            "Who is number two at {s}?",
            "{s} - stand-in for the boss?",
            "could you look up the vice head over in {s}",
            "when {s}'s leader is ill, who takes over?",
            "I'd like to know who substitutes for the one running {s}.",
        ),
    ),
    "headcount": (
        (
            "How many employees does {s} have?",
            "What is the headcount of {s}?",
            "How many people work in {s}?",
            "Please state the number of employees in {s}.",
        ),
        (
            "how big is the team at {s}",
            "{s} staff size",
            "{s}: staff count?",
            "I'm ordering pizza for everyone in {s}; for how many?",
            "What's {s}'s team strength?",
            "count of colleagues in {s} pls",
            "Do you know the size of {s}, in heads?",
            "Give me the staffing figure for {s}.",
            "over at {s}, how many of them are there",
        ),
    ),
    "floor": (
        (
            "On which floor is {s}?",
            "What floor does {s} use?",
            "Which floor is {s} on?",
            "Please tell me the floor of {s}.",
        ),
        (
            "where in the house does {s} sit",
            "{s} level",
            "I'm in the lift, which button for {s}?",
            "{s} - what storey?",
            "how many flights of stairs up is {s}, i.e. which storey?",
            "Could you tell me where I have to go to get to {s}?",
            "looking for {s}, where are they located in the building?",
            "Whereabouts has {s} been put?",
        ),
    ),
    "mailbox": (
        (
            "What is the shared mailbox of {s}?",
            "Which e-mail address does {s} have?",
            "Under which address does {s} receive e-mail?",
            "Please give the mailbox of {s}.",
        ),
        (
            "how do I write to {s}",
            "{s} email",
            "where should I send a message for {s}?",
            "I've got a PDF that has to reach {s}. Where do I mail it?",
            "{s} - inbox?",
            "what goes into the To: field if I want to contact {s} electronically",
            "Could you let me have {s}'s mail contact?",
            "mail adress for {s} pls",
        ),
    ),
}

CUSTOMER: dict[str, Asked] = {
    "account_manager": (
        (
            "Who is the account manager for {s}?",
            "Which account manager looks after {s}?",
            "Who manages the account of {s}?",
            "Please name {s}'s account manager.",
        ),
        (
            "which of our people handles {s}",
            "{s} sales rep",
            "Who on our side takes care of the client {s}?",
            "{s} called and wants their representative from our sales. Who is it?",
            "our key person for {s}?",
            "I'd like to know who in sales is assigned to {s}.",
            "to which of our reps does {s} belong",
            "{s}: in whose hands on our side?",
            "Tell me the colleague who serves {s}, please.",
        ),
    ),
    "contact": (
        (
            "Who is the contact person at {s}?",
            "Which contact do we have at {s}?",
            "Who is our contact at {s}?",
            "Please name the contact at {s}.",
        ),
        (
            "whom do I ask for when I call {s}",
            "{s} who to talk to over there",
            "Who over at {s} do we normally speak with?",
            "I'm writing to {s}: to whose attention?",
            "{s} - their person for us?",
            "when phoning {s}, who on their side should I get hold of?",
            "Give me a name on {s}'s end that I can approach.",
            "Could you tell me who at the client {s} deals with us?",
        ),
    ),
    "customer_number": (
        (
            "What is the customer number of {s}?",
            "Which customer number does {s} have?",
            "Under which number is {s} kept as a customer?",
            "Please give {s}'s customer number.",
        ),
        (
            "client id {s}",
            "{s} account no.",
            "I have to type in the ID for {s}, what is it?",
            "what's the client code we use for {s}?",
            "{s}, which ID in the CRM?",
            "Need {s}'s client identifier for an invoice.",
            "How is {s} numbered in our client list?",
            "the system asks for a client key for {s} - which one do I enter",
        ),
    ),
    "discount": (
        (
            "What discount does {s} get?",
            "Which discount was agreed with {s}?",
            "How high is the discount for {s}?",
            "Please state {s}'s discount.",
        ),
        (
            "how much do we knock off for {s}",
            "{s} rebate",
            "What percentage comes off when {s} buys?",
            "{s} - how many percent off?",
            "I'm making a quote for {s}: what reduction do they enjoy?",
            "by how much are prices cut for {s}?",
            "Tell me the price reduction granted to {s}.",
            "could you check what rebate {s} is entitled to",
        ),
    ),
    "credit_limit": (
        (
            "What is the credit limit of {s}?",
            "Which credit limit does {s} have?",
            "How high is the credit limit for {s}?",
            "Please state {s}'s credit limit.",
        ),
        (
            "up to what amount may {s} buy on account",
            "{s} max open balance",
            "How much can {s} owe us at most?",
            "{s}: ceiling for unpaid orders?",
            "At which sum do we stop delivering to {s} without payment?",
            "what's the cap on what {s} can run up with us",
            "Do you know how far we let {s} go into debt with us?",
            "I need to know the maximum outstanding we allow {s}.",
        ),
    ),
}

SUPPLIER: dict[str, Asked] = {
    "sales_contact": (
        (
            "Who is the sales contact at {s}?",
            "Which sales contact do we have at {s}?",
            "Who is our contact in the sales team of {s}?",
            "Please name the sales contact at {s}.",
        ),
        (
            "who over there sells to us at {s}",
            "{s} their rep",
            "If I want to place an order with {s}, whom on their side do I speak to?",
            "{s} - name of the vendor's salesperson?",
            "Whom do I ring up at {s} about an offer?",
            "could you dig out the representative that {s} has for us",
            "I'd need the person at {s} who answers our enquiries.",
            "who's {s}'s representative?",
        ),
    ),
    "buyer": (
        (
            "Which buyer is responsible for {s}?",
            "Who is our buyer for {s}?",
            "Who buys from {s} for us?",
            "Please name the buyer for {s}.",
        ),
        (
            "which of our own people in purchasing deals with {s}",
            "{s} purchaser on our side",
            "who in procurement has {s} on their desk?",
            "{s} - our purchasing colleague?",
            "On our side, who negotiates with {s}?",
            "I want to complain about {s} internally; which purchasing colleague handles them?",
            "tell me whose vendor {s} is in our procurement team",
            "Among our procurement folks, who takes care of {s}?",
        ),
    ),
    "goods": (
        (
            "What does {s} supply?",
            "Which goods does {s} supply to us?",
            "What do we order from {s}?",
            "Please state what {s} supplies.",
        ),
        (
            "what do we get from {s}",
            "{s} what stuff",
            "What kind of things come from {s}?",
            "{s} is the vendor we use for what?",
            "a lorry from {s} is here, what's it bringing us normally?",
            "I wonder what it is that we purchase at {s}.",
            "what are we buying off {s}?",
            "{s}: delivering what exactly?",
        ),
    ),
    "lead_time": (
        (
            "What is the lead time of {s}?",
            "How long is the lead time at {s}?",
            "Which lead time does {s} have?",
            "Please state {s}'s lead time.",
        ),
        (
            "how long does {s} take to deliver",
            "{s} delivery days",
            "If I order at {s} today, after how many days does it arrive?",
            "{s} - wait until goods arrive?",
            "How fast is {s} with shipments?",
            "between placing an order with {s} and receiving it, how much time passes",
            "I need to plan stock: how many days does {s} need?",
            "Tell me {s}'s usual turnaround, please.",
        ),
    ),
    "city": (
        (
            "In which city is {s} based?",
            "What city is {s} in?",
            "Where does {s} have its headquarters?",
            "Please state the city of {s}.",
        ),
        (
            "where are {s} from",
            "{s} hq location",
            "I'm going to visit {s}, where do I travel to?",
            "{s} - which town?",
            "from which place does {s} operate",
            "What town would I find {s} in?",
            "Whereabouts is {s} located?",
            "could you tell me where {s} is at home",
        ),
    ),
}
