//! `milepost.v1.DatasetService`: converts, calls, converts.

use tonic::{Request, Response, Status};

use crate::{
    grpc::{
        from_proto::{self, PageRequest},
        pb::{self, dataset_service_server::DatasetService},
        to_proto,
    },
    model::{DatasetName, OnInvalid},
    schema::Form,
    store::{Dataset, DatasetChanges, DatasetSettings, Error, EventStore, Policies},
};

pub(crate) struct Datasets {
    pub(crate) store: EventStore,
}

#[tonic::async_trait]
impl DatasetService for Datasets {
    async fn create_dataset(
        &self,
        request: Request<pb::CreateDatasetRequest>,
    ) -> Result<Response<pb::CreateDatasetResponse>, Status> {
        let request = request.into_inner();
        let dataset = request.dataset.ok_or_else(|| Error::invalid("dataset", "missing"))?;
        let name = DatasetName::parse("dataset.name", &dataset.name).map_err(Error::from)?;
        if dataset.schema_id.is_empty() {
            return Err(Error::invalid("dataset.schema_id", "missing").into());
        }
        let pinned = pinned_version(&dataset)?;
        let settings = DatasetSettings {
            schema_id: dataset.schema_id.as_str().into(),
            admission: from_proto::admission(&dataset)?,
            dedupe_horizon: from_proto::dedupe_horizon(&dataset)?,
            on_invalid: on_invalid(dataset.on_invalid)?,
            pinned_version: pinned.unwrap_or(0),
            closed: is_closed(dataset.state)?,
            description: dataset.description,
            labels: dataset.labels.into_iter().collect(),
            retention: from_proto::retention(dataset.retention)?,
            policies: Policies {
                unknown_fields: from_proto::unknown_fields(dataset.unknown_fields)?,
                payload_form: payload_form(dataset.payload_form)?,
                lenient: dataset.lenient,
            },
        };
        let pin_latest = pinned == Some(0);
        let created =
            self.store.create_dataset(name, settings, pin_latest, request.validate_only).await?;
        let dataset = Some(self.message(&created)?);
        Ok(Response::new(pb::CreateDatasetResponse { dataset }))
    }

    async fn get_dataset(
        &self,
        request: Request<pb::GetDatasetRequest>,
    ) -> Result<Response<pb::GetDatasetResponse>, Status> {
        let dataset = self.store.dataset(&request.into_inner().name)?;
        let stats = self.store.dataset_stats(&dataset).await?;
        let in_force = self.store.version_in_force(&dataset)?;
        let dataset = Some(to_proto::dataset(
            &dataset,
            in_force,
            Some(stats),
            self.store.refused(Some(dataset.number)),
        ));
        Ok(Response::new(pb::GetDatasetResponse { dataset }))
    }

    async fn list_datasets(
        &self,
        request: Request<pb::ListDatasetsRequest>,
    ) -> Result<Response<pb::ListDatasetsResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest::parse(request.page_size, &request.page_token, "datasets")?;
        let (datasets, next_page_token) = page.take(self.store.datasets(), |it| it.name.as_str());
        let datasets = datasets.iter().map(|it| self.message(it)).collect::<Result<_, _>>()?;
        Ok(Response::new(pb::ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn update_dataset(
        &self,
        request: Request<pb::UpdateDatasetRequest>,
    ) -> Result<Response<pb::UpdateDatasetResponse>, Status> {
        let request = request.into_inner();
        let dataset = request.dataset.ok_or_else(|| Error::invalid("dataset", "missing"))?;
        let mask = request.update_mask.unwrap_or_default();
        if mask.paths.is_empty() {
            return Err(Error::invalid("update_mask", "names no field").into());
        }
        let mut changes = DatasetChanges::default();
        for path in &mask.paths {
            match path.as_str() {
                "version_policy" | "schema_version" => {
                    changes.pinned_version = Some(self.new_pin(&dataset)?);
                }
                "state" => changes.closed = Some(is_closed(dataset.state)?),
                "on_invalid" => changes.on_invalid = Some(on_invalid(dataset.on_invalid)?),
                "dedupe_horizon" => {
                    changes.dedupe_horizon = Some(from_proto::dedupe_horizon(&dataset)?);
                }
                "lenient" => changes.lenient = Some(dataset.lenient),
                "timestamps" => changes.timestamps = Some(from_proto::timestamps(&dataset)?),
                "limits" => changes.limits = Some(from_proto::dataset_limits(&dataset)),
                "description" => changes.description = Some(dataset.description.clone()),
                "labels" => changes.labels = Some(dataset.labels.clone().into_iter().collect()),
                "retention" => {
                    changes.retention = Some(from_proto::retention(dataset.retention)?);
                }
                "unknown_fields" => {
                    let policy = from_proto::unknown_fields(dataset.unknown_fields)?;
                    changes.unknown_fields = Some(policy);
                }
                "payload_form" => changes.payload_form = Some(payload_form(dataset.payload_form)?),
                other => return Err(bad_path(other, &["name", "schema_id"]).into()),
            }
        }
        let etag = Some(dataset.etag).filter(|etag| !etag.is_empty());
        let updated =
            self.store.update_dataset(dataset.name, etag, changes, request.validate_only).await?;
        let dataset = Some(self.message(&updated)?);
        Ok(Response::new(pb::UpdateDatasetResponse { dataset }))
    }

    async fn delete_dataset(
        &self,
        request: Request<pb::DeleteDatasetRequest>,
    ) -> Result<Response<pb::DeleteDatasetResponse>, Status> {
        let pb::DeleteDatasetRequest { name, etag, force, validate_only } = request.into_inner();
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        self.store.delete_dataset(name, etag, force, validate_only).await?;
        Ok(Response::new(pb::DeleteDatasetResponse {}))
    }

    async fn trim_dataset(
        &self,
        request: Request<pb::TrimDatasetRequest>,
    ) -> Result<Response<pb::TrimDatasetResponse>, Status> {
        let request = request.into_inner();
        let before = from_proto::trim_before(request.before)?;
        let etag = Some(request.etag).filter(|etag| !etag.is_empty());
        let trimmed =
            self.store.trim_dataset(request.name, before, etag, request.validate_only).await?;
        let in_force = self.store.version_in_force(&trimmed.dataset)?;
        let dataset =
            Some(to_proto::dataset(&trimmed.dataset, in_force, Some(trimmed.stats), Vec::new()));
        Ok(Response::new(pb::TrimDatasetResponse { dataset, removed_events: trimmed.removed }))
    }
}

impl Datasets {
    fn message(&self, dataset: &Dataset) -> Result<pb::Dataset, Error> {
        Ok(to_proto::dataset(dataset, self.store.version_in_force(dataset)?, None, Vec::new()))
    }

    /// The pin that an update asks for: 0 for none, else the version, the latest if it names none.
    fn new_pin(&self, dataset: &pb::Dataset) -> Result<u32, Error> {
        match pinned_version(dataset)? {
            None => Ok(0),
            Some(0) => {
                let existing = self.store.dataset(&dataset.name)?;
                Ok(self.store.schema(&existing.settings.schema_id, 0)?.version)
            }
            Some(version) => Ok(version),
        }
    }
}

/// Why an update mask's path is refused.
pub(crate) fn bad_path(path: &str, immutable: &[&str]) -> Error {
    let what = if immutable.contains(&path) { "cannot be changed" } else { "is no such field" };
    Error::invalid("update_mask", format!("`{path}` {what}"))
}

/// `None` with LATEST; with PINNED the version, 0 for the latest.
fn pinned_version(dataset: &pb::Dataset) -> Result<Option<u32>, Error> {
    match from_proto::enumeration("dataset.version_policy", dataset.version_policy)? {
        pb::VersionPolicy::Pinned => Ok(Some(dataset.schema_version)),
        pb::VersionPolicy::Unspecified | pb::VersionPolicy::Latest => {
            if dataset.schema_version != 0 {
                let message = format!("{} with LATEST; wanted 0", dataset.schema_version);
                return Err(Error::invalid("dataset.schema_version", message));
            }
            Ok(None)
        }
    }
}

fn is_closed(state: i32) -> Result<bool, Error> {
    Ok(match from_proto::enumeration("dataset.state", state)? {
        pb::DatasetState::Unspecified | pb::DatasetState::Open => false,
        pb::DatasetState::Closed => true,
    })
}

fn payload_form(number: i32) -> Result<Form, Error> {
    Ok(from_proto::form("dataset.payload_form", number)?.unwrap_or_default())
}

fn on_invalid(policy: i32) -> Result<OnInvalid, Error> {
    Ok(from_proto::on_invalid("dataset.on_invalid", policy)?.unwrap_or_default())
}
