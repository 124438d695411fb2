"""Texts for speech in tests, with words that are written in one way only: no numbers, names or abbreviations.

`ENGLISH` takes about 90 seconds as `tests.speech.speech` says it, the others about 20.
"""

ENGLISH = """
The old lighthouse stands on a narrow strip of rock at the end of the bay. Every evening the keeper climbs the long
stairs with a lamp in one hand and a basket of bread in the other. He likes to watch the fishing boats when they come
home before the storm.

One night in autumn the wind grew so strong that the windows began to shake. The keeper saw a small boat far out on the
water. Its sail was torn, and the waves threw it from side to side. He rang the great bell again and again, until the
people in the village woke up and ran down to the beach.

Together they pulled a heavy rope across the sand. A young woman swam out with the end of the rope around her waist.
The water was cold, but she did not turn back. After a long time she reached the boat and tied the rope to its mast.
Everyone on the beach began to pull, and slowly the boat came closer to the land.

In the morning the storm was over. The sea was flat and blue, and the sun was shining on the wet stones. The people from
the boat sat in the kitchen of the lighthouse, drank hot tea and told their story. Since that day there has always been
a light in the window when the weather is bad.

The young woman became the next keeper. She painted the door green, planted a small garden behind the wall and learned
the names of all the birds that rest on the rocks in spring.
"""

GERMAN = """
Am Morgen geht die Frau durch den Garten und sammelt die roten Äpfel in einen großen Korb. Der Hund läuft neben ihr und
sucht nach einem Stock. Später kocht sie in der Küche eine warme Suppe, und die Kinder decken den Tisch. Draußen beginnt
es zu regnen, aber im Haus ist es warm und hell.
"""

SPANISH = """
Por la mañana la mujer camina por el jardín y recoge las manzanas rojas en una cesta grande. El perro corre a su lado y
busca una rama. Más tarde prepara una sopa caliente en la cocina, y los niños ponen la mesa. Fuera empieza a llover,
pero dentro de la casa hace calor.
"""

FRENCH = """
Le matin, la femme traverse le jardin et ramasse les pommes rouges dans un grand panier. Le chien court à côté d'elle et
cherche un bâton. Plus tard, elle prépare une soupe chaude dans la cuisine, et les enfants mettent la table. Dehors il
commence à pleuvoir, mais dans la maison il fait chaud.
"""
