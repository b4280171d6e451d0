"""What messages at work are about: topics with their names, words, descriptions and messages. Data only.

In a message {x} is one of the topic's own words, {e} a product, {n} a person, {c} a city, {v} an amount of money,
{d} a weekday, {t} a job title and {o} a company. A person can always tell two topics apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.seedling.writer import Forms


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: how a label may call it, words that belong to it, its descriptions, and messages on it."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    descriptions: Forms
    messages: Forms


def _parts(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("|")]


def _topic(names: str, words: str, descriptions: str, messages: str) -> Topic:
    return Topic(
        tuple(_parts(names)), tuple(_parts(words)), Forms(*_parts(descriptions)), Forms(*_parts(messages))
    )


TOPICS = (
    _topic("billing|invoices", "invoice|bill",
        """invoices and payments|questions about a bill|money that we charge|charges on a bill or card|a wrong
        invoice or payment|what was paid or charged|charges on a card|questions about an invoice or a payment""",
        """I was charged twice for {e}.|The {x} shows {v}, which is wrong.|Why did you bill me {v}?|The invoice for
        {e} charges me twice.|There is a mistake in my {x}.|Please send me the {x} again.|I already paid {v} last
        week.|I paid this bill already; please check it.|When is the payment of {v} due?|You took {v} from my card
        by mistake.|I do not understand this {x}.|Why is there a charge of {v} on my card?|Can I pay the invoice in
        two parts?|My card was charged {v} too much.|Has my payment of {v} come in?|There is a wrong {x} of
        {v}.|This {x} is for {e}, which I never bought.|I paid {v}, but the {x} says more.|Please check the last {x}
        from {o}.|This {x} says {v}, but I paid more."""),
    _topic("delivery|shipping", "parcel|package|order|shipment",
        """parcels and delivery|where an order is|shipping of goods|delivery of orders|late or lost parcels|parcels
        that have not arrived|drivers, parcels and addresses|where a parcel or shipment is""",
        """My {x} has not arrived.|Where is my {x}?|The delivery of {e} is late.|Has my {x} been shipped?|The parcel
        was left at the wrong door.|How long does delivery take?|The driver did not ring the bell.|The driver left
        my {x} at the wrong house.|Can you ship {e} to {c}?|The tracking page does not show my {x}.|When will the
        {x} be delivered?|When will the driver be at my door in {c}?|The {x} was sent to an old address.|My {x} is
        lost, it seems.| Please deliver {e} on {d}.|The {x} for {c} is late and the tracking page is empty.|Was my
        {x} shipped to {c}?|The driver lost the {x} for {n}.|Has the parcel with {e} left {c}?|Was the {x} with {e}
        delivered to {c}?"""),
    _topic("login|sign-in", "password|user name|login",
        """passwords and signing in|access to an account|trouble signing in|signing in to an account|locked accounts
        and lost passwords|people who cannot sign in|user names and passwords|a lost password or locked account""",
        """I forgot my password.|I cannot sign in.|My account is locked.|I cannot sign in because my {x} is
        wrong.|The login page rejects me.|How do I reset my password?|It says that my user name is wrong.|My
        password is wrong, it says.|Please unlock the account of {n}.|The password link has expired.|I need a new
        {x} to get in.|Please reset the password of {n}.|{n} cannot sign in today.|I typed my password three times
        and now I am locked out.|How do I change my {x}?|My account is locked after three wrong passwords.|{n}
        forgot the password.|The sign-in page asks for a {x} that I do not know.|I typed my {x}, but the account
        stays locked.|I forgot my {x}, and my account is locked."""),
    _topic("fault|defects", "screen|motor|display|handle",
        """something is broken|a device that does not work|defects and crashes|a device that is broken|machines that
        stopped working|a machine with a defect|things that break or fail|a device that broke or stopped""",
        """{e} does not turn on.|{e} is broken.|{e} makes a strange noise.|{e} makes a noise and stops.|{e} stopped
        working today.|The {x} of {e} is broken.|There is a crack in {e}.|There is a crack in the {x}.|{e} crashes
        every hour.|{e} gets hot and stops.|The {x} fell off {e}.|{e} does not work; the {x} is broken.|{e} fails
        each time I start it.|The screen stays black.|The {x} no longer works.|{e} stopped and does not start
        again.|{e} smells burnt and does not start.|The motor of {e} is broken.|{e} broke on {d}.|The {x} of {e}
        broke and does not work."""),
    _topic("praise|compliments", "help|service|work|support",
        """thanks and kind words|happy customers|compliments|kind words from happy customers|people who like our
        work| praise for a person or product|thanks for good help|people who thank us or praise us""",
        """{e} is wonderful, thank you.|Great work by {n}.|I love {e}.|I love the {x} of {n}.|{n} was very kind to
        me.|Best {x} I ever had.|Thank you, {n}, for the quick {x}.|Thank you for the great {x}.|{e} is the best I
        have used.|What a pleasure to work with {n}.|We are so happy with {e}.|We are happy with {n}; what great
        {x}.|{n} did a wonderful job.|I am very pleased with the {x}.|Please tell {n} how happy we are.|{n} is
        wonderful, and so is {e}.|Your {x} was a pleasure.|{n} is the best.|We thank {n} for the kind words.|Thank
        you, {n}, it was a pleasure."""),
    _topic("returns|refunds", "refund|exchange|return",
        """sending goods back|refunds and exchanges|goods that come back|goods sent back for a refund|people who
        want their money back|returns of products|products to return or exchange|exchanges and returns""",
        """I want to send {e} back.|How do I return {e}?|Please refund {e}.|How do I get a refund for {e}?|I want my
        money back for {e}.|Can I exchange {e} for another one?|{e} is the wrong size, so I am returning it.|I want
        to exchange {e}, as it is the wrong size.|Where do I send {e} to return it?|I changed my mind and will give
        {e} back.|How long may I wait before I return {e}?|I changed my mind; please refund {e}.|Is a {x} still
        possible for {e}?|I would like a {x} for {e}.|{e} goes back to you today; I want a refund.|May I send {e}
        back and get a refund?|Here is {e}; please exchange it.|The refund for {e} has not come yet.|{e} is the
        wrong colour, so I send it back.|{e} has the wrong colour; please refund it."""),
    _topic("hiring|jobs", "job|position",
        """people who want to work here|applications and hiring|open positions|applications for open positions|job
        interviews and applications|someone who looks for a job|new staff and vacancies|people who apply for a
        job""",
        """I want to apply for a {x} in {c}.|Is the position of {t} still open?|Here is my application.|Here is my
        application for the position of {t}.|Are you hiring a {t}?|When are the interviews for the position?|I sent
        my application to {n}.|I look for a new job as {t}.|Do you have an open {x} in {c}?|I would like to work for
        you as {t}.|We interviewed {n} for the vacancy.|Is there a vacancy for a {t} in {c}?|Has {n} read my
        application?|I am a {t} and look for a new job.|Who do we hire as {t}?|{n} wants to apply as {t}.|Please
        read my application as {t}.|We have an open position for a {t}.|{n} comes to the interview for the
        {x}.|Please read the application of {n} as {t}."""),
    _topic("meetings|appointments", "meeting|appointment|call|talk",
        """appointments and calendars|finding a time to meet|meetings|meetings and appointments|a day or time for a
        meeting|planning when to meet|moving or cancelling an appointment|finding a day for an appointment""",
        """Can we meet on {d}?|Please move our {x} to {d}.|Is {n} free on {d}?|Can we move the {x} to {d}?|Let us
        meet in {c} next week.|The {x} on {d} is cancelled.|Which day suits you for a {x}?|Let us meet on {d}; which
        time suits {n}?|Put a {x} with {n} in my calendar.|Shall we talk on {d} instead?|I cannot come to the {x} on
        {d}.| {n} is not free for the {x} on {d}.|At what time do we meet {n}?|Please plan a {x} with {n} and me.|My
        calendar is free on {d}.|Please put our meeting on {d} in the calendar.|Is {d} a good day for our
        {x}?|Please move the meeting with {n}.|I am late for the {x} with {n}.|Is {d} a good day to meet {n}?"""),
    _topic("prices|quotes", "quote|offer|discount|price",
        """what something costs|offers and quotes|prices before a purchase|quotes and prices|asking for a discount
        or an offer|people who ask what a product costs|price lists and discounts|people who ask for a price or a
        quote""",
        """How much is {e}?|Send me a quote for {e}.|Is there a discount on {e}?|Please send an offer for ten of
        {e}.|What would {e} cost?|I need an offer for ten of {e}.|Is {e} cheaper in {c}?|How much would ten of {e}
        cost?|What is your best {x} for {e}?|Please quote {e} for us.|Do you have a price list?|What is the {x} if
        we buy two of {e}?|{o} offers {e} for {v}; can you beat that?|I want to buy {e} and need a {x}.|Is {v} your
        lowest price for {e}?|Is there a price list with {e} in it?|Please send an offer for {e}.|What is the price
        of {e} in {c}?|We want a {x} for five of {e}.|Please send the price of {e} in {c}."""),
    _topic("safety|accidents", "fire|accident|gas leak",
        """danger and accidents|injuries and risks|hazards at work|accidents and injuries|something dangerous at
        work| fire, smoke and people who are hurt|people who were hurt|danger, fire and injuries""",
        """Somebody slipped on the stairs.|There is smoke in the hall.|{n} was hurt by {e}.|{n} was hurt on the
        stairs.|There was a {x} at the site in {c}.|I saw bare wires near {e}; this is dangerous.|The fire exit is
        blocked; this is dangerous.|There is smoke near {e}.|{n} fell and broke an arm.|{n} cut a finger on {e}.|I
        want to report an accident in {c}.|{n} slipped and was hurt.|The guard on {e} is missing, and somebody may
        be hurt.|Somebody was burned by {e}.|I fear a {x} near {e}.|I saw an accident near {e}.|Fire! Everybody
        leave the hall!|{n} was hurt in an accident.|The wet floor near {e} is a danger.|There was a fire near {e},
        and {n} was hurt."""),
    _topic("contracts|legal", "contract|agreement",
        """contracts and signatures|legal questions|terms of an agreement|terms and clauses of a contract|papers
        that must be signed|clauses, terms and agreements|questions for a lawyer|signing a contract or agreement""",
        """Please sign the contract with {o}.|The {x} with {o} is still missing.|Our lawyer wants to change a
        clause.| Our lawyer must read the contract with {o}.|When does the agreement with {o} end?|Who signed the
        {x} with {o}?| I do not agree with the second clause.|Who must sign the agreement with {o}?|Please send me a
        copy of the contract.|The terms of the {x} are not clear.|{o} did not keep to the agreement.|A clause of the
        contract is not clear.|{n} must read the contract before we sign.|May we end the contract with {o}?|The
        lawyer of {o} wrote to us.|{n} wants to change the terms of the agreement.|Is the {x} with {o} signed?|We
        need a lawyer for the agreement with {o}.|Please read the second clause of the {x}.|Is the agreement that
        {o} signed clear?"""),
    _topic("training|courses", "course|lesson|workshop|class",
        """courses and lessons|people who want to learn|training of staff|courses for staff who want to
        learn|teachers, classes and certificates|places in a course|learning a new skill|lessons and training
        courses""",
        """Is there a place left in the course on {e}?|I want to learn how to use {e}.|When does the next {x}
        begin?|I want a place in the next {x}.|Who teaches the {x} in {c}?|{n} passed the course.|I need training on
        {e}.|{n} needs a course on {e}.|Will I get a certificate for the {x}?|The {x} was too hard for me.|Please
        put {n} down for the {x}.|Who gives lessons on {e}?|My team needs to learn more about {e}.|The teacher of
        the {x} is ill.| How many lessons does the course have?|Did {n} get a certificate after the course?|Which
        {x} teaches how to use {e}?|The lessons in {c} begin on {d}.|I want to learn from {n}.|I want lessons to
        learn how to use {e}."""),
    _topic("leave|holidays", "holiday|leave|vacation",
        """holidays and days off|staff who are ill or away|requests for leave|days off and holidays of staff|sick
        notes and vacation|people who want time off|asking for vacation|requests for holidays or leave""",
        """I would like to take {x} in May.|May I have {d} off?|I am ill and stay at home today.|May I take {x} next
        week?|How much {x} do I have left?|{n} is on vacation until {d}.|Here is my sick note.|{n} is ill and stays
        at home.|I want two days off next week.|Please approve my {x}.|{n} will be away on parental leave.|Please
        approve two days off for {n}.|Can I carry my {x} over to next year?|I have a fever and cannot come to
        work.|Who stands in while {n} is on {x}?|{n} has vacation days left.|{n} takes {x} in July.|I am off sick
        until {d}.|My {x} begins on {d}.|I am off on {d}, as my {x} begins."""),
    _topic("travel|trips", "flight|trip|train ticket",
        """business trips|flights and hotels|tickets for a journey|trips with flights and hotels|booking a
        trip|people who travel for work|trains, planes and hotels|booking a flight or hotel""",
        """Please book a flight to {c}.|I need a hotel in {c} for two nights.|My {x} to {c} was cancelled.|Please
        book a hotel in {c} for {n}.|Which train goes to {c} on {d}?|{n} travels to {c} on {d}.|How do I get from
        the airport to the hotel?|The train to {c} is cancelled; please book a flight.|Can I take a taxi from the
        airport?|My {x} is booked for {d}.|I am flying to {c} and need a seat.|{n} needs a train ticket to {c}.|I
        need a visa for my trip to {c}.|The plane to {c} leaves at noon.|Please change my {x} to {d}.|I am flying to
        {c} and need a hotel.|{n} flies to {c} on {d}.|The hotel in {c} is full.|How long is the flight to {c}?|{n}
        flies to {c} and needs a hotel."""),
    _topic("press|media", "article|story|report",
        """journalists and newspapers|questions from the press|news and interviews|an article in the press|requests
        from a newspaper or journalist|television and radio|what newspapers write about us|journalists who ask for
        news""",
        """I am a journalist and write about {o}.|A newspaper wants to talk to {n}.|Our {x} on {e} appears in the
        newspaper.|A journalist wants to write about {e}.|May we print a photo of {n}?|The radio asks for an
        interview with {n}.|A reporter called about {o}.|A reporter asks for a photo of {e}.|Television will come to
        film {e}.|The newspaper printed a wrong {x} about us.|Please send us your press release.|The newspaper has a
        {x} about {n}.|I am writing an article on {e} for a magazine.|Who speaks to the press about {e}?|Readers of
        our magazine ask about {o}.|Which magazine printed the {x} about {o}?|A newspaper prints a photo of {e}.|{n}
        gave an interview on the radio.|The {x} about {o} is in the newspaper today.|{n} gave an interview to a
        newspaper in {c}."""),
    _topic("network|internet", "internet|network|connection|wifi",
        """internet and network trouble|the connection is slow or down|wifi and cables|a slow or lost internet
        connection|no network|websites that do not load|cables, wifi and internet|the network is down or slow""",
        """The {x} is down.|The internet is slow today.|There is no wifi in {c}.|The {x} is slow in {c}.|Websites
        take minutes to load.|I lost the {x} again.|The network cable is loose.|Websites do not load; is the {x}
        down?|Our {x} drops every few minutes.|I cannot reach the server from home.|The wifi signal is weak.|The {x}
        is weak and websites do not load.|Nobody in {c} can get online.|My computer finds no network.|The server
        cannot be reached from {c}.|My computer lost the {x}.|Please check the network in {c}.|Is the internet down
        in {c}?|The wifi drops when I load websites.|Please check the wifi, as websites do not load."""),
    _topic("building|rooms", "heating|window|lift|roof",
        """repairs to the building|heating, lights and windows|doors, lifts and the roof|the heating or a window of
        the building|rooms that are too cold or dark|water that drips from the roof|offices and halls that need
        repair|a lift, door or window that needs repair""",
        """The {x} needs repair.|It is too cold in my office.|Water drips from the roof.|The heating in my office
        needs repair.|The lift is stuck on the second floor.|The window in the hall does not open.|The light in the
        hall went out.|The lift and the light in the hall need repair.|A tap in the bathroom drips.|The {x} in the
        old building is broken.|The walls of our office need paint.|It is cold because the window does not
        close.|The heating does not get warm.|Rain comes in through the window.|The lights on our floor
        flicker.|Rain drips from the roof into the hall.|The door of my office does not close.|Water comes in
        through the roof.|The {x} on the third floor is stuck.|The door of the lift does not close."""),
    _topic("cleaning|waste", "dust|rubbish|dirt|waste",
        """dirty rooms and floors|cleaning and rubbish|bins that are full|cleaning of dirty floors|dust, dirt and
        waste|soap, towels and bins|rooms that need cleaning|full bins and dirty rooms""",
        """The bins in the hall are full.|There is {x} on all the desks.|Nobody cleaned our room.|The floor is dirty
        and the bins are full.|The carpet has a big stain.|There is no soap in the washroom.|Please take away the
        {x}.| There is {x} on the carpet; please clean it.|The kitchen floor is sticky.|Our desks are covered with
        {x}.|When will the windows be washed?|When will our room be cleaned?|The washroom is dirty again.|Please
        empty the bins on {d}.|The towels are all used up.|Please clean the dirty kitchen floor.|Please clean the
        kitchen.|The floor of the hall is full of {x}.|The washroom has no towels and no soap.|Please clean the
        washroom, as it is full of {x}."""),
    _topic("canteen|food", "lunch|soup|meal",
        """food and meals|lunch in the canteen|what there is to eat|meals and food in the canteen|the menu and the
        cook|coffee, soup and lunch|people who want to eat|the canteen and its meals""",
        """The {x} was cold today.|What is on the menu on {d}?|I do not eat meat.|What do we eat on {d}?|The soup
        has too much salt.|Is the canteen open on {d}?|Please order lunch for six people.|The {x} in the canteen has
        too much salt.|The coffee machine has no milk.|The cook made a great {x}.|I am allergic to nuts.|Is there a
        {x} without meat on the menu?|The canteen ran out of bread.|Could we have more fruit at lunch?|There was a
        hair in my {x}.|The canteen has no coffee and no bread.|The bread was old.|I would like {x} without nuts.|We
        eat in the canteen on {d}.|I would like to eat bread with my {x}."""),
    _topic("privacy|data", "data|personal data|contact data",
        """personal data|what we store about a person|requests to delete data|personal details that we store|data
        protection|people who want their data deleted|privacy and personal records|requests about the personal data
        that we store""",
        """Please delete all {x} you hold on me.|Which {x} do you store about me?|Do not share my {x} with others.|
        Please delete the {x} that you store about {n}.|My {x} was sent to a stranger.|How long do you keep personal
        data?|I want a copy of the data you hold on me.|Did you share my {x} with {o}?|Who can see my {x}?|Take my
        name off your records.|I never agreed that you store my {x}.|Who at {o} can see my {x}?|Data of our
        customers has leaked.|My privacy matters to me; what do you store?|Is my {x} safe with you?|I want a copy of
        the {x} you keep about me.|Please send me a copy of my {x}.|Who stores {x} about our customers?|{o} may not
        keep my {x}.|Please delete my {x}; {o} may not keep it."""),
    _topic("partners|partnerships", "partnership|joint project|alliance",
        """firms that want to work with us|partnerships|plans to work together|firms that want to be partners|a
        proposal to join forces|working together with another firm|proposals for cooperation|a proposal to work
        together""",
        """{o} wants to be our partner.|Could our firms work together?|We propose a {x} with {o}.|{o} wants to work
        together with us.|Let us join forces on {e}.|{o} would like to build {e} together with you.|Are you looking
        for partners in {c}?|We want to join forces with {o}.|Our firm would like to start a {x} with yours.|A {x}
        with {o} would help both sides.|We could sell {e} together.|Could {o} and your firm start a {x}?|{o} has an
        idea for a {x}.|Would you join a {x} on {e}?|We are a firm in {c} and seek partners.|Our firm seeks a
        partner to build {e}.|{o} seeks a partner in {c}.|We would like a {x} with your firm.|Our two firms could
        share the work on {e}.|{o} seeks a {x} with a firm in {c}."""),
    _topic("spam|junk", "prize|gift|reward",
        """junk mail|tricks and false prizes|messages to throw away|junk mail with false prizes|somebody who wants
        to trick us|unwanted mail that promises riches|lotteries and get-rich tricks|false promises of a prize""",
        """You have won {v}! Click here now!|Claim your free {x} today!|Get rich from home in one week!|You have won
        {v}! Claim it now!|Click this link to win {e}!|A prince wants to give you {v}.|Act now and double your
        money!|Click here to get rich now!|Your {x} is waiting, just send us your bank details!|You won the lottery
        in {c}!|Miracle pills, free for you!|Your {x} of {v} is waiting! Click the link!|Earn {v} a day and never
        work again!|Dear friend, I left you {v}, send your bank details!|Last chance to claim your {x}!|Win {v}
        today! Last chance to claim it!|Win a free {x}! Click this link!|Your lucky day: {v} for you!|Send {v} and
        get rich!|Click now and win {v}! It is your lucky day!"""),
    _topic("suggestions|ideas", "idea|suggestion|improvement|wish",
        """ideas and wishes|how we could do better|suggestions for a change|ideas to make something better|features
        that somebody wishes for|proposed improvements|wishes for new features|suggestions on how to improve""",
        """I have an idea to make {e} better.|You could add a timer to {e}.|It would be nice if {e} came in more
        colours.|My {x}: add a second button to {e}.|I have a {x} for {e}.|Why not make {e} smaller?|I suggest a
        second button on {e}.|I suggest that you make {e} smaller.|My {x} is to make {e} lighter.|I wish that {e}
        had a bigger screen.|You could improve {e} with a longer cable.|I wish you would add a button to {e}.|Here
        is a {x}: make {e} in blue.|An idea for next year: sell {e} in sets.|It would be better if {e} had
        wheels.|It would be nice if you made {e} lighter.|Could you make {e} in more sizes?|I suggest more colours
        for {e}.|{e} would be better with a handle; that is my {x}.|I suggest that you make {e} in more sizes."""),
    _topic("complaints|rudeness", "rude|unfriendly|impolite|unkind",
        """rude staff|people who were treated badly|complaints about somebody's manners|complaints about rude staff|
        somebody was unfriendly|bad manners of an employee|staff who shout or insult|an employee who was rude""",
        """{n} was {x} to me on the phone.|Your staff shouted at me.|{n} hung up on me.|{n} was {x} and shouted at
        me.|I was insulted by {n}.|The man at the desk was {x}.|{n} laughed at my question.|{n} insulted me on the
        phone.|Nobody greeted me, and {n} was {x}.|I complain about the bad manners of {n}.|The lady in {c} was very
        {x}.|I complain about {n}, who was {x} to me.|{n} treated me like a child.|I was treated badly by {n}.|{n}
        called me stupid.|The lady at the desk treated me badly.|{n} shouted at us.|The man on the phone was {x} to
        me.|{n} has bad manners.|The man on the phone had bad manners."""),
    _topic("parking|cars", "car park|garage",
        """parking and cars|spaces in the car park|company cars|parking spaces and the garage|where to leave a
        car|cars that block the way|the garage and its gate|cars and where to park them""",
        """Somebody parked in my space.|Where can I park my car?|I need a parking space.|Where is the {x} for my
        car?|A blue car blocks the gate.|The {x} is full every morning.|My car was towed away.|A car blocks my
        parking space.|Can visitors use the {x}?|The gate of the garage does not open for my car.|Who drives the
        company car on {d}?|Can I park in the {x} on {d}?|Please give {n} a parking space.|The car park is closed on
        {d}.|A white van stands in two parking spaces.|The car of {n} blocks the gate of the garage.|The {x} has no
        space for my car.|The {x} has no space left.|Please park the company car in the {x}.|My company car is
        parked in the {x}."""),
    _topic("supplies|stationery", "paper|toner|printer paper|glue",
        """office supplies|paper, pens and toner|things that we ran out of at the office|paper, pens and office
        supplies to order|stationery to order|orders of paper and folders|the cupboard with the stationery|paper,
        pens and stationery to order""",
        """We are out of {x}.|Please order more {x}.|There is no {x} left in the cupboard.|Please order {x}; the
        cupboard is empty.|I need ten boxes of {x}.|The printer needs new toner.|Where do you keep the {x}?|The
        printer is out of paper.|Our stapler is empty.|Could I get some {x} for my desk?|We used up all the {x} this
        month.|I need some {x}; there is none on my desk.|{n} asks for envelopes and stamps.|The stationery cupboard
        is empty.|Two boxes of {x} are enough for us.|We need more envelopes and {x}.|Who orders {x} for the
        office?|The office needs pens and {x}.|We need pens and {x} this week.|Who orders pens for our office?"""),
    _topic("payroll|salaries", "salary|pay|monthly pay",
        """salaries and wages|what staff earn|payslips|wages and payslips of staff|overtime pay and
        bonuses|questions on one's salary|a salary that is late or wrong|what an employee earns""",
        """My {x} is wrong this month.|When do we get our wages?|I did not get my {x} in March.|When do I get my {x}
        for March?|My bonus is missing from my salary.|I worked on {d} and want overtime pay.|How much do I earn
        after tax?|My payslip shows no bonus.|The {x} of {n} was too low.|Please send my salary to another bank
        account.|Is there a pay rise this year?|My {x} was too low this month.|My payslip has not come.|I earn less
        than {n}; may I have a pay rise?|Which tax is taken from my wages?|How much tax is taken from my {x}?|{n}
        earns more than I do.|When is the salary of {n} paid?|My {x} for March was too low.|When do I get my
        overtime pay?"""),
    _topic("cancellation|subscriptions", "subscription|membership|plan|newsletter",
        """ending a subscription|people who want to cancel|members who leave|members who cancel a
        subscription|stopping a service or plan|cancelled plans|cancelling a membership|people who want to end a
        plan""",
        """I want to cancel my {x}.|Please end my {x} this month.|How do I stop the {x}?|How do I cancel the {x}
        this month?|I no longer need your {x}.|Take me off the newsletter.|Please do not renew my {x}.|I no longer
        want to renew the {x}.|Cancel the {x} for {n}.|We are leaving; please close our membership.|My {x} should
        end on {d}.| Please stop the {x} of {n}.|I signed up for the {x} and want out.|I was a member for years, but
        now I quit.|Do not extend the plan of {n}.|I quit; please cancel my {x}.|I no longer want to be a
        member.|{n} wants to cancel the {x}.|Please end the membership of {n}.|{n} no longer wants the {x}; please
        cancel it."""),
    _topic("visitors|reception", "guest|visitor",
        """guests at the front desk|visitors and their badges|people who come to see us|guests and visitors at
        reception|a guest who waits downstairs|showing somebody around|badges for guests|visitors who come to the
        front desk""",
        """A {x} waits for you downstairs.|{n} from {o} is at the front desk.|Please make a badge for {n}.|{n} waits
        at the front desk and needs a badge.|Two visitors from {o} will come on {d}.|Who shows the guests around?|My
        guest lost a visitor badge.|Who will meet our visitors at reception?|Please show {n} around the house.|A
        group from {c} will visit us on {d}.|Where do guests sign in at reception?|A group of guests from {o} is
        downstairs.|Our {x} from {c} arrives at noon.|Reception has a visitor for {n}.|May I bring my son as a
        guest?|Our guests from {c} wait at reception.|The guests are at reception.|{n} comes to visit us on {d}.|A
        visitor from {c} needs a badge.|A {x} from {o} needs a badge at reception."""),
)  # fmt: skip
