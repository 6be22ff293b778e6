//! Formats: how keys and values are read from bytes and written to them, by the names of pipeline.toml.
//!
//! `string`, `i64` and `f64` are the bytes of Kafka's own serializers.

use std::fmt;

/// Raw bytes, format `bytes`.
pub type Bytes = Vec<u8>;

/// A format that a port or a store is declared with. `Option<F>` is `F` where null is a value too (a tombstone),
/// `()` is any bytes, unread.
pub trait Format {
    /// What a row is read as.
    type Value;
    /// The format's name in pipeline.toml.
    const NAME: &'static str;
    /// Reads a row; `None` is null.
    fn decode(bytes: Option<&[u8]>) -> Result<Self::Value, Undecodable>;
}

/// A value that can be written in format `F`.
pub trait Encode<F: Format> {
    /// Appends the bytes; answers `false` for null.
    fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String>;
}

/// A value whose type says its format: what the short forms return and what tests pipe in.
pub trait Datum: Encode<Self::Format> {
    /// Its format.
    type Format: Format;
}

/// A value that is read from a row without copying it where possible: what the short forms take.
pub trait FromBytes<'a>: Sized {
    /// Its format.
    type Format: Format;
    /// Whether null is one of its values. If not, the short forms do not ask the function about null.
    const TAKES_NULL: bool = false;
    /// Reads a row.
    fn from_bytes(bytes: Option<&'a [u8]>) -> Result<Self, Undecodable>;
}

/// Why bytes are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    part: &'static str,
    reason: String,
}

impl Undecodable {
    /// `reason` completes "the bytes cannot be read: …".
    pub fn new(reason: impl Into<String>) -> Self {
        Undecodable {
            part: "",
            reason: reason.into(),
        }
    }

    /// Says which part of the record it was.
    pub(crate) fn of(self, part: &'static str) -> Self {
        Undecodable { part, ..self }
    }

    fn null(format: &str) -> Self {
        Undecodable::new(format!(
            "null is no `{format}`. hint: `Option<…>` in the declaration takes null"
        ))
    }

    fn length(format: &str, length: usize) -> Self {
        Undecodable::new(format!("`{format}` has 8 bytes, not {length}"))
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.part.is_empty() {
            write!(f, "{}: ", self.part)?;
        }
        f.write_str(&self.reason)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Undecodable> {
    std::str::from_utf8(bytes).map_err(|error| Undecodable::new(format!("not UTF-8: {error}")))
}

impl Format for String {
    type Value = String;
    const NAME: &'static str = "string";
    fn decode(bytes: Option<&[u8]>) -> Result<String, Undecodable> {
        <&str>::from_bytes(bytes).map(str::to_owned)
    }
}

impl Format for Bytes {
    type Value = Bytes;
    const NAME: &'static str = "bytes";
    fn decode(bytes: Option<&[u8]>) -> Result<Bytes, Undecodable> {
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Undecodable::null(Self::NAME))
    }
}

impl Format for () {
    type Value = ();
    const NAME: &'static str = "any";
    fn decode(_: Option<&[u8]>) -> Result<(), Undecodable> {
        Ok(())
    }
}

impl<F: Format> Format for Option<F> {
    type Value = Option<F::Value>;
    const NAME: &'static str = F::NAME;
    fn decode(bytes: Option<&[u8]>) -> Result<Option<F::Value>, Undecodable> {
        bytes.map(|bytes| F::decode(Some(bytes))).transpose()
    }
}

/// Numbers of eight bytes, big-endian.
macro_rules! number {
    ($type:ty, $name:literal) => {
        impl Format for $type {
            type Value = $type;
            const NAME: &'static str = $name;
            fn decode(bytes: Option<&[u8]>) -> Result<$type, Undecodable> {
                let bytes = bytes.ok_or_else(|| Undecodable::null($name))?;
                let bytes = bytes
                    .try_into()
                    .map_err(|_| Undecodable::length($name, bytes.len()))?;
                Ok(<$type>::from_be_bytes(bytes))
            }
        }
        impl Encode<$type> for $type {
            fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
                out.extend_from_slice(&self.to_be_bytes());
                Ok(true)
            }
        }
        impl Encode<$type> for &$type {
            fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
                <$type as Encode<$type>>::encode(self, out)
            }
        }
        impl Datum for $type {
            type Format = $type;
        }
        impl FromBytes<'_> for $type {
            type Format = $type;
            fn from_bytes(bytes: Option<&[u8]>) -> Result<$type, Undecodable> {
                <$type as Format>::decode(bytes)
            }
        }
    };
}
number!(i64, "i64");
number!(f64, "f64");

/// Values that are their own bytes.
macro_rules! plain {
    ($format:ty: $($type:ty),*) => {
        $(impl Encode<$format> for $type {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
                out.extend_from_slice(AsRef::<[u8]>::as_ref(&**self));
                Ok(true)
            }
        })*
    };
}
plain!(String: String, &String, &str, std::borrow::Cow<'_, str>);
plain!(Bytes: Bytes, &Bytes, &[u8]);

impl<const N: usize> Encode<Bytes> for &[u8; N] {
    fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
        <&[u8] as Encode<Bytes>>::encode(&self.as_slice(), out)
    }
}

impl Encode<()> for () {
    fn encode(&self, _: &mut Vec<u8>) -> Result<bool, String> {
        Ok(false)
    }
}

impl<F: Format, E: Encode<F>> Encode<Option<F>> for Option<E> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
        self.as_ref().map_or(Ok(false), |value| value.encode(out))
    }
}

impl Datum for String {
    type Format = String;
}
impl Datum for &String {
    type Format = String;
}
impl Datum for &str {
    type Format = String;
}
impl Datum for std::borrow::Cow<'_, str> {
    type Format = String;
}
impl Datum for Bytes {
    type Format = Bytes;
}
impl Datum for &Bytes {
    type Format = Bytes;
}
impl Datum for &[u8] {
    type Format = Bytes;
}
impl<const N: usize> Datum for &[u8; N] {
    type Format = Bytes;
}
impl Datum for () {
    type Format = ();
}
impl<D: Datum> Datum for Option<D> {
    type Format = Option<D::Format>;
}

impl<'a> FromBytes<'a> for &'a str {
    type Format = String;
    fn from_bytes(bytes: Option<&'a [u8]>) -> Result<Self, Undecodable> {
        text(bytes.ok_or_else(|| Undecodable::null(String::NAME))?)
    }
}

impl<'a> FromBytes<'a> for &'a [u8] {
    type Format = Bytes;
    #[inline]
    fn from_bytes(bytes: Option<&'a [u8]>) -> Result<Self, Undecodable> {
        bytes.ok_or_else(|| Undecodable::null(Bytes::NAME))
    }
}

impl FromBytes<'_> for String {
    type Format = String;
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Undecodable> {
        String::decode(bytes)
    }
}

impl FromBytes<'_> for Bytes {
    type Format = Bytes;
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Undecodable> {
        Bytes::decode(bytes)
    }
}

impl<'a, A: FromBytes<'a>> FromBytes<'a> for Option<A> {
    type Format = Option<A::Format>;
    const TAKES_NULL: bool = true;
    fn from_bytes(bytes: Option<&'a [u8]>) -> Result<Self, Undecodable> {
        bytes.map(|bytes| A::from_bytes(Some(bytes))).transpose()
    }
}

#[cfg(feature = "json")]
pub use json::Json;

#[cfg(feature = "json")]
mod json {
    use super::{Datum, Encode, Format, FromBytes, Undecodable};
    use serde::{Serialize, de::DeserializeOwned};

    /// Format `json`. A port or store of `Json<T>` is read as `T` and written from `T` or `&T`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Json<T>(pub T);

    impl<T: DeserializeOwned> Format for Json<T> {
        type Value = T;
        const NAME: &'static str = "json";
        fn decode(bytes: Option<&[u8]>) -> Result<T, Undecodable> {
            let bytes = bytes.ok_or_else(|| Undecodable::null(Self::NAME))?;
            serde_json::from_slice(bytes).map_err(|error| Undecodable::new(format!("not this JSON: {error}")))
        }
    }

    fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<bool, String> {
        serde_json::to_writer(out, value).map_err(|error| format!("cannot be written as JSON: {error}"))?;
        Ok(true)
    }

    impl<T: Serialize + DeserializeOwned> Encode<Json<T>> for T {
        fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
            write(self, out)
        }
    }

    impl<T: Serialize + DeserializeOwned> Encode<Json<T>> for &T {
        fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
            write(self, out)
        }
    }

    impl<T: Serialize + DeserializeOwned> Encode<Json<T>> for Json<T> {
        fn encode(&self, out: &mut Vec<u8>) -> Result<bool, String> {
            write(&self.0, out)
        }
    }

    impl<T: Serialize + DeserializeOwned> Datum for Json<T> {
        type Format = Json<T>;
    }

    impl<T: DeserializeOwned> FromBytes<'_> for Json<T> {
        type Format = Json<T>;
        fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Undecodable> {
            Self::decode(bytes).map(Json)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes<F: Format>(value: impl Encode<F>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        value.encode(&mut out).unwrap().then_some(out)
    }

    #[test]
    fn numbers_are_big_endian_and_of_eight_bytes() {
        assert_eq!(bytes::<i64>(-2), Some([0xff; 7].into_iter().chain([0xfe]).collect()));
        assert_eq!(i64::decode(Some(&[0, 0, 0, 0, 0, 0, 1, 0])).unwrap(), 256);
        assert_eq!(f64::decode(bytes::<f64>(1.5).as_deref()).unwrap(), 1.5);
        assert_eq!(
            i64::decode(Some(b"1")).unwrap_err().to_string(),
            "`i64` has 8 bytes, not 1"
        );
    }

    #[test]
    fn null_is_a_value_of_options_only() {
        assert_eq!(Option::<String>::decode(None).unwrap(), None);
        assert!(
            String::decode(None)
                .unwrap_err()
                .to_string()
                .starts_with("null is no `string`")
        );
        assert_eq!(bytes::<Option<String>>(None::<&str>), None);
        assert_eq!(bytes::<Option<String>>(Some("")), Some(Vec::new()));
    }

    #[test]
    fn text_that_is_not_utf8_says_where() {
        let error = String::decode(Some(b"ab\xff")).unwrap_err().of("value");
        assert!(error.to_string().starts_with("value: not UTF-8"), "{error}");
    }
}
