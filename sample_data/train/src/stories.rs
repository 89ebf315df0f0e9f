//! Small stories whose next words depend on earlier ones: a fact to recall, a key to look up, a sum, a list.

use rand::Rng;
use rand::seq::IndexedRandom;

const NAMES: &[&str] = &["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "June", "Kai", "Lea"];
const THINGS: &[&str] =
    &["key", "book", "lamp", "apple", "drum", "kite", "map", "ring", "boat", "coin", "shell", "clock"];
const COLORS: &[&str] = &["red", "blue", "green", "yellow", "white", "black", "purple", "orange"];
const PLACES: &[&str] = &["garden", "kitchen", "library", "station", "harbour", "market", "attic", "school"];
const ANIMALS: &[&str] = &["cat", "dog", "fox", "owl", "hen", "goat", "crow", "hare"];

fn pick<'a>(list: &[&'a str], rng: &mut impl Rng) -> &'a str {
    list.choose(rng).expect("the lists are not empty")
}

/// Two different entries of a list.
fn two<'a>(list: &[&'a str], rng: &mut impl Rng) -> (&'a str, &'a str) {
    let pair: Vec<_> = list.choose_multiple(rng, 2).collect();
    (pair[0], pair[1])
}

/// One story of two to four sentences.
pub fn story(rng: &mut impl Rng) -> String {
    match rng.random_range(0..6) {
        0 => {
            let ((a, b), (x, y)) = (two(NAMES, rng), two(THINGS, rng));
            let (p, q) = two(PLACES, rng);
            let (who, what, place) = if rng.random() { (a, x, p) } else { (b, y, q) };
            format!(
                "{a} left the {x} in the {p}. {b} left the {y} in the {q}. Later {who} looked for the {what} and found the {what} in the {place}."
            )
        }
        1 => {
            let ((a, b), (x, y)) = (two(THINGS, rng), two(COLORS, rng));
            let (thing, color) = if rng.random() { (a, x) } else { (b, y) };
            format!("The {a} is {x} and the {b} is {y}. What color is the {thing}? The {thing} is {color}.")
        }
        2 => {
            let (a, b) = (rng.random_range(0..10), rng.random_range(0..10));
            let name = pick(NAMES, rng);
            let thing = pick(THINGS, rng);
            format!(
                "{name} has {a} {thing}s and finds {b} more. {a} + {b} = {}. Now {name} has {} {thing}s.",
                a + b,
                a + b
            )
        }
        3 => {
            let animals: Vec<&str> = ANIMALS.choose_multiple(rng, 3).copied().collect();
            let list = format!("the {}, the {} and the {}", animals[0], animals[1], animals[2]);
            format!("In the {} live {list}. Every evening {list} sing.", pick(PLACES, rng))
        }
        4 => {
            let keys: Vec<&str> = NAMES.choose_multiple(rng, 3).copied().collect();
            let numbers: Vec<u32> = (0..3).map(|_| rng.random_range(10..100)).collect();
            let i = rng.random_range(0..3);
            format!(
                "{}: {}; {}: {}; {}: {}. The number of {} is {}.",
                keys[0], numbers[0], keys[1], numbers[1], keys[2], numbers[2], keys[i], numbers[i]
            )
        }
        _ => {
            let (a, b) = two(ANIMALS, rng);
            let c = pick(COLORS, rng);
            format!("The {c} {a} met a {b}. \"Who are you?\" said the {b}. \"I am the {c} {a},\" said the {a}.")
        }
    }
}

/// `n` stories.
pub fn many(n: usize, rng: &mut impl Rng) -> Vec<String> {
    (0..n).map(|_| story(rng)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_same_seed_gives_the_same_stories() {
        let make = || many(50, &mut rand_chacha::ChaCha8Rng::seed_from_u64(3));
        assert_eq!(make(), make());
        assert_ne!(make(), many(50, &mut rand_chacha::ChaCha8Rng::seed_from_u64(4)));
    }
}
