//! Clients that are cut off at any byte and come back.

use event_buffer::publisher::Resume;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, join};
use tokio::sync::watch;

use crate::support::{Refused, Server, Shop, TRANSPORTS, Transport, View, change, watchdog};

const KEYS: [&str; 3] = ["fruit", "tools", "books"];
const CLIENTS: usize = 50;
const COMMITS: u64 = 500;
/// How far the clients may be behind, more or less.
const BEHIND: u64 = 20;
/// One that has it all, and one that some clients come back too late for.
const HISTORIES: [usize; 2] = [500, 20];

/// Random numbers, the same each time.
struct Random(u64);

impl Random {
    fn up_to(&mut self, limit: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// What a client has been through.
#[derive(Default)]
struct Seen {
    fresh: usize,
    resumed: usize,
    reset: usize,
}

/// Follows a key to the last commit. At every place the view is what the shop was.
async fn follow(
    transport: Transport,
    server: &Server,
    shop: &Shop,
    number: usize,
    reached: watch::Sender<u64>,
) -> Seen {
    let mut random = Random(u64::try_from(number).unwrap() + 1);
    let key = KEYS[number % KEYS.len()];
    let (mut view, mut seen) = (View::default(), Seen::default());
    while *reached.borrow() < COMMITS {
        let (read, write) = server.connect().await.into_split();
        let cut = join(read.take(random.up_to(4_000)), write);
        let connection = transport
            .watch(cut, (key, "alice"), view.place.as_deref())
            .await;
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(Refused::Cut) => continue,
            Err(refused) => panic!("{refused:?}"),
        };
        while *reached.borrow() < COMMITS {
            let Some(message) = connection.next().await else {
                break;
            };
            if message.name == "begin" {
                match message.data.as_str() {
                    Some("fresh") => seen.fresh += 1,
                    Some("resumed") => seen.resumed += 1,
                    how => {
                        assert_eq!(how, Some("too old"));
                        seen.reset += 1;
                    }
                }
            }
            let is_place = message.place.is_some();
            view.receive(&message.name, message.data, message.place);
            if is_place {
                let place: Resume = view.place.as_ref().unwrap().parse().unwrap();
                assert_eq!(view.stock, shop.stock(key, place.index), "{key} at {place}");
                reached.send_replace(place.index);
            }
        }
    }
    seen
}

/// Changes something of one key, and at times of the others; at the end of all.
fn commit(shop: &Shop, server: &Server, index: u64, random: &mut Random) {
    let first = usize::try_from(index).unwrap() % KEYS.len();
    let mut changes = Vec::new();
    for (n, key) in KEYS.iter().enumerate() {
        if n == first || index == COMMITS || random.up_to(4) == 0 {
            for _ in 0..=random.up_to(2) {
                let item = format!("item {}", random.up_to(10));
                changes.push(((*key).to_owned(), change(item, 1)));
            }
        }
    }
    assert_eq!(shop.commit(&server.app.publisher, changes), index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_cut_off_at_any_byte_miss_nothing_and_get_nothing_twice() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for history in HISTORIES {
            all_follow(transport, history).await;
        }
    }
}

async fn all_follow(transport: Transport, history: usize) {
    let shop = Shop::new();
    let server = Server::start(shop.publisher(history)).await;
    let reached: Vec<_> = (0..CLIENTS).map(|_| watch::Sender::new(0)).collect();
    let mut watched: Vec<_> = reached.iter().map(watch::Sender::subscribe).collect();
    let clients = reached.into_iter().enumerate();
    let clients = clients.map(|(n, reached)| follow(transport, &server, &shop, n, reached));
    let produce = async {
        let mut random = Random(1_000);
        for index in 1..=COMMITS {
            commit(&shop, &server, index, &mut random);
            // So commits, clients and cuts interleave.
            let client = &mut watched[usize::try_from(index).unwrap() % CLIENTS];
            let is_near = |reached: &u64| reached + BEHIND >= index;
            client.wait_for(is_near).await.unwrap();
        }
    };
    let (seen, ()) = tokio::join!(join_all(clients), produce);
    let sum = |count: fn(&Seen) -> usize| seen.iter().map(count).sum::<usize>();
    let (resumed, reset) = (sum(|seen| seen.resumed), sum(|seen| seen.reset));
    println!(
        "{transport:?}: {} fresh, {resumed} resumed, {reset} reset",
        sum(|seen| seen.fresh)
    );
    assert!(resumed > CLIENTS);
    assert_eq!(reset > 0, history < 500, "{reset} resets");
    server.stop().await;
}
