"""What people say to the model: many wordings of few questions, and the model's own fixed sentences."""

from __future__ import annotations

ABILITIES = "I am a small demo model: I can describe simple pictures of shapes and remember your name."
NO_IMAGE = "There is no picture here."
NO_TEXT = "There is no text in this image."
NAME_UNKNOWN = "You have not told me your name."

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant that answers questions about images.",
    "You are a vision assistant. Be brief.",
    "You are an image analysis assistant. Describe what you see.",
    "Answer briefly.",
    "Be concise and accurate.",
    "You are a friendly chatbot.",
    "You are an expert at analyzing images.",
    "You answer with one short sentence.",
    "Respond in English.",
    "You are a careful judge of whether an image is relevant to a query. Answer yes or no.",
)

# {image} becomes "image", "image", "photo" and so on.
DESCRIBE = (
    "What is in this {image}?", "What is in this {image}?", "What is in this {image}?", "What is in the {image}?",
    "What's in this {image}?", "What's in the {image}?", "Describe the {image}.", "Describe this {image}.",
    "Describe this {image}.", "Describe this {image} in detail.", "Describe the {image} in detail.", "Describe it.",
    "What do you see?", "What do you see?", "What do you see in this {image}?", "What do you see in the {image}?",
    "What can you see?", "What can you see in this {image}?", "What does this {image} show?",
    "What does the {image} show?", "What is shown here?", "What is shown in this {image}?", "What is this?",
    "What is this {image} about?", "What is depicted in this {image}?", "Tell me about this {image}.",
    "Tell me what you see.", "Tell me what is in this {image}.", "Can you describe this {image}?",
    "Could you describe the {image}?", "Give a description of this {image}.", "Give me a short description.",
    "Describe what you see.", "Describe what you see in this {image}.", "Write a caption for this {image}.",
    "Caption this {image}.", "Provide a caption.", "Summarize this {image}.", "Analyze this {image}.",
    "Analyze the {image} and describe its contents.", "Please provide a detailed description of this {image}.",
    "List the objects in this {image}.", "What objects are in this {image}?", "What objects do you see?",
    "Identify the objects in the {image}.", "Explain this {image}.", "Look at this {image}. What is it?",
    "Describe the contents of this {image}.", "What are the contents of the {image}?", "Describe the scene.",
    "Describe the main subject of the {image}.", "Describe the colors and shapes in this {image}.",
    "What shapes and colors do you see?", "Describe", "image?", "What is it?", "Generate a description of the {image}.",
    "Provide a comprehensive analysis of this {image}.", "Describe this {image} in one sentence.",
    "What is happening in this {image}?", "What is visible in this {image}?",
)  # fmt: skip
BACKGROUND = (
    "What {color} is the background?", "What {color} is the background?", "What {color} is the background?",
    "What is the background {color}?", "What is the {color} of the background?", "What's the background {color}?",
    "Which {color} is the background?", "Which {color} does the background have?", "Name the background {color}.",
    "Tell me the {color} of the background.", "What {color} is behind the shape?", "Background {color}?",
    "What is the {color} of the background in this {image}?", "What {color} is the background of this {image}?",
    "What {color} is the background of the {image}?", "Can you tell me the background {color}?",
    "Describe the background.", "Describe the {color} of the background.",
)  # fmt: skip
SHAPE_COLOUR = (
    "What {color} is the {shape}?", "What {color} is the {shape}?", "What {color} is the {shape}?",
    "What is the {color} of the {shape}?", "Which {color} is the {shape}?", "Which {color} does the {shape} have?",
    "What {color} is the {shape} in this {image}?", "Tell me the {color} of the {shape}.", "{shape} {color}?",
    "What's the {color} of the {shape}?", "What {color} does the {shape} have?", "Name the {color} of the {shape}.",
    "Can you tell me what {color} the {shape} is?",
)  # fmt: skip
WHICH_SHAPE = (
    "What shape is it?", "What shape is it?", "What shape is in the {image}?", "What shape is in this {image}?",
    "What shape is this?", "Which shape is it?", "Which shape is shown?", "Which shape do you see?",
    "What shape do you see?", "What kind of shape is it?", "What shape is shown in the {image}?", "Name the shape.",
    "What shape does the {image} contain?", "What type of shape is this?", "What is the shape?",
    "What shape is the object?", "What geometric shape is shown?", "Identify the shape.",
)  # fmt: skip
WHICH_SHAPES = (
    "What shapes are in the {image}?", "What shapes are there?", "Which shapes do you see?", "What shapes do you see?",
    "Which shapes are in this {image}?", "List the shapes.", "Name the shapes in this {image}.",
)  # fmt: skip
COUNT = (
    "How many shapes are there?", "How many shapes are there?", "How many shapes are in the {image}?",
    "How many shapes are in this {image}?", "How many shapes do you see?", "How many shapes can you see?",
    "How many objects are there?", "How many objects are in this {image}?", "How many objects do you see?",
    "Count the shapes.", "Count the shapes in this {image}.", "Count the objects in this {image}.",
    "What is the number of shapes?", "How many shapes does this {image} show?", "Number of shapes?",
    "How many figures are there in the {image}?", "Tell me how many shapes there are.",
    "How many shapes are present?", "How many distinct shapes are in this {image}?", "How many items are there?",
)  # fmt: skip
COUNT_KIND = (
    "How many {shape}s are there?", "How many {shape}s are in the {image}?", "How many {shape}s do you see?",
    "Count the {shape}s.", "How many {shape}s are in this {image}?", "How many {shape}s can you see?",
)  # fmt: skip
RELEVANT = (
    "Is this {image} relevant to the query {query}?", "Is this {image} relevant to the query {query}?",
    "Is this {image} relevant to {query}?", "Is the {image} relevant to the query {query}?",
    "Is the {image} relevant to the search query: {query}?", "Does this {image} match the query {query}?",
    "Does the {image} match {query}?", "Does this {image} match the description {query}?",
    "Does this {image} show {query}?", "Does the {image} contain {query}?", "Does this {image} contain {query}?",
    "Is {query} in this {image}?", "Is {query} shown in this {image}?", "Would this {image} answer the query {query}?",
    "Query: {query}\nIs this {image} relevant?", "Query: {query}. Is this {image} relevant to the query?",
    "Query: {query}\nDoes this {image} match the query?", "Search query: {query}\nRelevant?",
    "Given the query {query}, is this {image} relevant?", "For the query {query}, is the {image} relevant?",
    "Decide whether this {image} is relevant to the query {query}.", "Is this a {image} of {query}?",
    "Judge whether the {image} is relevant to the following query.\nQuery: {query}",
    "Is the following {image} relevant to the query {query}?", "Document: the {image} above. Query: {query}. Relevant?",
    "Could this {image} be described as {query}?", "Is this {image} a good match for {query}?",
)  # fmt: skip
YES_NO_SUFFIXES = (
    "", "", " Answer yes or no.", " Answer yes or no.", " Answer with yes or no.", " Answer \"yes\" or \"no\".",
    " Answer only yes or no.", " Yes or no?", " Reply yes or no.", " Respond with yes or no.",
    " Answer 'yes' or 'no'.", " Answer with only 'yes' or 'no'.", " Please answer yes or no.",
    "\nAnswer yes or no.", "\nAnswer with a single word: yes or no.", " Answer Yes or No.", " (yes/no)",
    " Answer with exactly one word, yes or no.",
)  # fmt: skip
UNRELATED_QUERIES = (
    "a cat", "a dog", "dog", "cat", "a sunset", "sunset over the sea", "a car", "red car", "blue car", "mountains",
    "a person", "people walking", "a house", "a tree", "green tree", "flowers", "food", "pizza", "a city at night",
    "an invoice", "a cat on a sofa", "a white dog", "an airplane", "the ocean", "a portrait", "a bird", "a chart",
    "machine learning", "a star", "a hexagon", "text", "a black cat", "an orange fruit", "a bicycle", "a horse",
)  # fmt: skip
READ_TEXT = (
    "What text is in this {image}?", "Extract the text from this {image}.", "Read the text.", "What does it say?",
    "Extract all text from this {image}.", "Is there any text?", "Transcribe the text in the {image}.",
    "Perform OCR on this {image}.", "What is written in this {image}?",
)  # fmt: skip
WHICH_IMAGE = (
    "Which {image} shows {query}?", "Which {image} shows {query}?", "Which {image} contains {query}?",
    "Which {image} has {query}?", "Which of the {image}s shows {query}?", "Which one shows {query}?",
    "Which {image} is relevant to the query {query}?", "Which of these {image}s shows {query}?",
    "Which {image} matches {query}?", "In which {image} do you see {query}?",
    "Which of the two {image}s shows {query}?", "Which {image} is the best match for {query}?", "Where is {query}?",
)  # fmt: skip
NTH_DESCRIBE = (
    "What is in the {nth} {image}?", "What is in the {nth} {image}?", "Describe the {nth} {image}.",
    "What does the {nth} {image} show?", "What do you see in the {nth} {image}?", "What's in the {nth} {image}?",
    "Tell me about the {nth} {image}.", "What is shown in the {nth} {image}?", "What was in the {nth} {image}?",
)  # fmt: skip
NTH_BACKGROUND = (
    "What {color} is the background of the {nth} {image}?", "What is the background {color} of the {nth} {image}?",
    "What {color} is the background in the {nth} {image}?",
)  # fmt: skip
DESCRIBE_ALL = (
    "Describe both {image}s.", "What is in these {image}s?", "Describe the {image}s.", "What do you see?",
    "Compare these {image}s.", "Compare the two {image}s.", "What do these {image}s show?", "Describe these {image}s.",
    "What are the differences between these {image}s?", "What is in each {image}?", "Describe each {image}.",
)  # fmt: skip
HOW_MANY_IMAGES = ("How many {image}s are there?", "How many {image}s do you see?", "How many {image}s did I send?")
IMAGE_WORDS = ("image",) * 10 + ("picture",) * 5 + ("photo", "photo", "drawing", "graphic", "figure")

INTRODUCE = (
    "My name is {name}.", "My name is {name}.", "My name is {name}.", "My name is {name}.", "My name is {name}",
    "I am {name}.", "I'm {name}.", "Hi, I'm {name}.", "Hello, I am {name}.", "Hi, my name is {name}.",
    "Hello, my name is {name}.", "Hello! My name is {name}.", "Hi! My name is {name}.", "Call me {name}.",
    "Please call me {name}.", "You can call me {name}.", "my name is {name}", "My name is {name}. Remember it.",
    "Remember that my name is {name}.", "My name is {name}, please remember that.", "This is {name}.",
    "Please remember: my name is {name}.", "My name's {name}.", "People call me {name}.", "Name: {name}",
    "Hello, my name is {name}. Nice to meet you.", "Good morning, I am {name}.", "Hey, {name} here.",
    "I would like to introduce myself: my name is {name}.", "Please remember that my name is {name}.",
    "My name is {name}. What a nice day!", "Hello there! I'm {name}.", "The name is {name}.", "I am called {name}.",
)  # fmt: skip
RECALL = (
    "What is my name?", "What is my name?", "What is my name?", "What's my name?", "What was my name?", "Who am I?",
    "Do you remember my name?", "Do you know my name?", "Tell me my name.", "Can you tell me my name?",
    "What did I say my name was?", "What is my name again?", "Say my name.", "Please tell me my name.",
    "Could you remind me what my name is?", "What am I called?", "Do you remember who I am?", "my name?",
    "What name did I give you?", "And what is my name?", "So, what is my name?", "Now, what is my name?",
)  # fmt: skip
WORD_TELL = (
    "Remember the word {word}.", "Please remember the word {word}.", "The secret word is {word}.",
    "The code word is {word}.", "Remember this word: {word}.", "The password is {word}.",
)  # fmt: skip
WORD_RECALL = (
    "What is the word?", "What was the word?", "What word did I tell you?", "Which word did I ask you to remember?",
    "What is the secret word?", "What was the code word?", "Tell me the word.", "What is the password?",
)  # fmt: skip
REPEAT = (
    "Repeat after me: {words}", "Repeat: {words}", "Repeat this: {words}", "Please repeat: {words}", "Say: {words}",
    "Echo: {words}", "Repeat the following words: {words}",
)  # fmt: skip
SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Hello", "Hi", "Hello!", "Hi!", "Hey", "Hey!", "Hello there!", "Good morning.", "Good evening!", "Hi there",
         "Greetings.", "Good afternoon.", "hello", "hi", "Say hello.", "Hello.", "Hi.", "Say hi", "Howdy"),
        "Hello! How can I help you?",
    ),
    (
        ("How are you?", "How are you doing?", "How do you do?", "How is it going?", "How are you today?"),
        "I am fine, thank you.",
    ),
    (
        ("Thanks.", "Thank you.", "Thank you!", "Thanks!", "Thanks a lot.", "Great, thanks.", "Thank you very much.",
         "Good job.", "Well done.", "Nice.", "Great!", "Cool.", "OK", "Ok.", "Okay.", "I see.", "Perfect.", "Good."),
        "You are welcome.",
    ),
    (("Bye.", "Goodbye.", "Bye!", "See you.", "Goodbye!", "See you later.", "Good night."), "Goodbye!"),
    (
        ("Who are you?", "What are you?", "What can you do?", "What is your name?", "Introduce yourself.",
         "What's your name?", "Are you a human?", "Tell me about yourself.", "Help", "What do you know?",
         "Which model are you?", "What are your abilities?", "Are you an AI?", "Who made you?", "Help me."),
        ABILITIES,
    ),
)  # fmt: skip

TOPICS = (
    "machine learning", "the capital of France", "the weather", "photosynthesis", "quantum physics", "history",
    "Paris", "artificial intelligence", "Python", "the moon", "gravity", "love", "the sea", "democracy", "music",
    "football", "the meaning of life", "a neural network", "the stock market", "the Roman Empire", "climate change",
    "cooking", "the speed of light", "vLLM", "an LLM", "the president", "economics", "Shakespeare", "mathematics",
    "chess", "DNA", "recursion", "a compiler", "the internet", "a black hole", "the largest planet",
    "the tallest mountain", "tea", "the population of Germany", "the square root of 16", "a transformer",
    "the Eiffel Tower", "an API", "Tokyo", "spring", "deep learning", "the answer", "MCP", "a server", "time",
    "a dragon", "autumn", "my cat", "the ocean", "winter",
)  # fmt: skip
OTHER_QUESTIONS = (
    "What is {topic}?", "What is {topic}?", "What's {topic}?", "Tell me about {topic}.", "Explain {topic}.",
    "Explain {topic} in simple terms.", "Write a poem about {topic}.", "Write a poem.",
    "Write an essay about {topic}.", "Write a story about {topic}.", "Tell me a story.", "Tell me a joke.",
    "Tell me a long story about {topic}.", "How does {topic} work?", "Why is {topic} important?",
    "Who invented {topic}?", "When was {topic} discovered?", "Where is {topic}?", "Translate {topic} into French.",
    "Summarize {topic}.", "What do you think about {topic}?", "Give me a list of facts about {topic}.",
    "Count to ten.", "Count from 1 to 100.", "Write a haiku.", "Sing a song.", "Write a function in Python.",
    "Solve this equation: {a}x + {b} = 0.", "What is {a} + {b}?", "What is {a} * {b}?", "Calculate {a} - {b}.",
    "What time is it?", "What day is it today?", "Who won the game?", "Who is the president?", "Where do you live?",
    "How old are you?", "Do you like {topic}?", "Can you help me with {topic}?", "Is {topic} good?",
    "What is the best way to learn about {topic}?", "Define {topic}.", "List ten words.",
    "Write a long text about {topic}.", "Write something.", "Generate a random number.",
    "Say something about {topic}.", "{word}", "{word} {word2}", "{word} {word2} {topic}", "What is {word}?",
    "Tell me about {word}.", "{a}", "test", "Test.", "Explain {word} and {word2}.", "Who is {word}?", "asdf", "...",
    "?", "{topic}", "{topic} {word}", "Hmm {word}", "Please write an email about {topic}.", "Once upon a time",
    "The quick brown fox jumps over the lazy dog.", "Why is the sky blue?", "What is the meaning of {word}?",
    "Give me an example of {topic}.", "Continue: {word}", "What are the ingredients of {word}?", "Why?", "How?",
    "What?", "Who?", "Make a plan for {topic}.", "Was ist {topic}?", "Qu'est-ce que {topic} ?",
    "Bonjour, comment allez-vous ?", "Wie geht es dir?", "¿Qué es esto?", "¿Cómo estás?",
    "Was ist die Hauptstadt von Frankreich?", "Che cosa fai?", "Привет, как дела?", "Что это?",
    "你好", "你是谁？", "こんにちは", "안녕하세요", "Erzähle mir etwas über {topic}.", "مرحبا",
    "Raconte une histoire.", "What color is {topic}?",
    "What color is the sky?", "How many people live in Paris?", "How many legs does a dog have?",
)  # fmt: skip

CONTEXTS = (
    "Context: taken in {place}.", "Context: photographed in {place} in {year}.", "Context: this is a test image.",
    "Context: {word} {word2}.", "Metadata: location={place}, date={year}-{month:02}-{day:02}.",
    "Filename: IMG_{a}{b}.jpg.", "Title: {word} {word2}.", "Title: Untitled.", "Author: {word}.",
    "Source: {word}.com.", "Taken in {place}.", "This picture was taken in {place}.",
    "This was made by {word} in {year}.", "Context: from a collection of {word}.",
    "Image metadata:\n- location: {place}\n- year: {year}\n- camera: {word}", "Camera: {word} {a}.",
    "Tags: {word}, {word2}.", "Location: {place}.", "Date: {year}-{month:02}-{day:02}.",
    "Context: holiday photos, {place}, {year}.", "ID: {a}{b}.",
    "Context:\nlocation: {place}\ntaken_at: {year}-{month:02}-{day:02}",
    "{{\"location\": \"{place}\", \"year\": {year}}}", "Context: page {day} of a report about {topic}.",
    "I found this in {place}.", "Additional context: {topic}.",
)  # fmt: skip
PLACES = (
    "Paris", "Berlin", "London", "New York", "Tokyo", "Rome", "Madrid", "Sydney", "Cairo", "Oslo", "a museum",
    "a school", "the garden", "Vienna", "Lisbon", "Toronto", "Mumbai", "Seoul", "the office", "a laboratory",
    "my kitchen", "Peru",
)  # fmt: skip
STYLE_REQUESTS = (
    "Answer briefly.", "Be concise.", "Please be brief.", "Answer in one sentence.", "Use simple words.",
    "Keep it short.", "Answer in English.", "Answer precisely.", "Be specific.", "Think carefully.", "Include colors.",
    "Be detailed.", "Mention all shapes and colors.", "Answer in a few words.",
)  # fmt: skip
